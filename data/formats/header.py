"""Decide whether the first row of a csv or tsv file holds the names of its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inbatch.data.formats.columns import role_of
from inbatch.data.formats.delimited import is_number
from inbatch.data.formats.doubt import Doubt, Meaning
from inbatch.data.formats.ids import likeness
from inbatch.errors import UsageError

# Without known names: so many rows, none of which could be a line of names, tell the first line from a row.
_ENOUGH = 20
_LONGEST_NAME = 40
_WORDS_OF_A_NAME = 3
# Scripts without blanks between words need fewer characters for a sentence.
_LONGEST_NAME_OF_A_SYLLABARY = 8
_PUNCTUATION = re.compile(r"[.!?…。！？؟।](\s|$)|[,;،，、；]\s")

Cells = list[list[str]]


def find_names(
    where: str, cells: Cells, columns: Mapping[str, Any] | None, header: bool | None
) -> tuple[bool, tuple[str, ...]]:
    """Decide whether the first row holds names, and return them, or the numbers of the columns.

    It does where the user says so, by ``header`` or by names in it; where its cells are known names, with columns of identifiers beside
    them or not; where a column of numbers, or a count without a name, stands below something else; and where it is short as names are and
    none of many rows is. Nothing else is sure.

    Args:
        where: the file, for messages.
        cells: of the first rows.
        columns: roles of the columns as the user set them.
        header: what the user says; None decides.

    Raises:
        UsageError: if two columns have one name.
        Doubt: if the first row may be names, or a row.

    Example:
        >>> find_names("faq.csv", [["question", "answer"], ["Do you ship?", "Yes."]], None, None)
        (True, ('question', 'answer'))
        >>> find_names("faq.csv", [["Do you ship?", "Yes."]], None, header=False)
        (False, ('0', '1'))
    """
    return _First(where, cells, columns).find(header)


def width(cells: Cells) -> int:
    """Return the number of cells of every row, 0 where they differ; a first row may lack the name of a running number, as R writes it.

    Example:
        >>> width([["drink", "price"], ["tea", "2.50"]]), width([["drink", "price"], ["tea"]])
        (2, 0)
        >>> width([["drink", "price"], ["1", "tea", "2.50"], ["2", "milk", "1.20"]])  # R counts the rows
        3
    """
    widths = {len(row) for row in cells}
    if len(widths) == 1:
        return widths.pop()
    below = cells[1:]
    rest = {len(row) for row in below}
    if len(rest) == 1 and rest == {len(cells[0]) + 1} and _counts([row[0] for row in below]):
        return rest.pop()
    return 0


def _counts(column: Sequence[str]) -> bool:
    """Whether a column counts up from 0 or 1."""
    start = {"0": 0, "1": 1}.get(column[0].strip('" ')) if column else None
    return start is not None and all(cell.strip('" ') == str(start + i) for i, cell in enumerate(column))


class _First:
    """The first row of a file, beside those below."""

    def __init__(self, where: str, cells: Cells, columns: Mapping[str, Any] | None) -> None:
        self.where, self.below = where, cells[1:]
        self.first = [cell.strip() for cell in cells[0]]
        if self.below and all(len(row) == len(self.first) + 1 for row in self.below) and width(cells):
            self.first = ["", *self.first]
        listed = [
            item
            for value in (columns or {}).values()
            for item in (value if isinstance(value, (list, tuple)) else [value])
        ]
        self.set = {str(item) for item in listed}
        self.numbered = any(isinstance(item, int) for item in listed)

    def find(self, header: bool | None) -> tuple[bool, tuple[str, ...]]:
        numbers = tuple(map(str, range(len(self.first))))
        if header is None:
            header = self._decide()
        if not header:
            return False, numbers
        names = tuple(cell or f"Unnamed: {i}" for i, cell in enumerate(self.first))
        if len(set(names)) < len(names):
            raise UsageError(
                f"{self.where}: expected different names of the columns in the first line; got {', '.join(names)[:120]}."
            )
        return True, numbers if self.numbered else names

    def _decide(self) -> bool:
        sure = self._sure()
        if self.numbered:
            if sure:
                meanings: list[Meaning] = [
                    ("if that line holds names", {"header": True}),
                    ("if not", {"header": False}),
                ]
                raise Doubt(self.where, f"columns are set by numbers, and the first line is {self._shown()}", meanings)
            return False
        if sure or (self.set and self.set <= set(self.first)):
            return True
        meanings = [("if that line holds names", {"header": True}), ("if it is a row", {"header": False})]
        possible = len(set(self.first)) == len(self.first) and all(self._named(i) for i in range(len(self.first)))
        if not possible:
            meanings = meanings[1:]
        elif not all(map(_like_a_name, filter(None, self.first))):
            meanings.reverse()
        why = f"expected the names of the columns in the first line; {self._shown()} may be a row"
        raise Doubt(self.where, why, meanings)

    def _sure(self) -> bool:
        """Whether the first row can only be names."""
        count = range(len(self.first))
        if len(set(self.first)) < len(self.first) or not all(map(self._named, count)):
            return False
        roles = [role_of(cell) for cell in self.first]
        ids = [likeness(self.first[i], self._column(i)) == "ids" for i in count]
        known = [role is not None for role in roles]
        if any(known) and (all(a or b for a, b in zip(known, ids)) or {"anchor", "positive"} <= set(roles)):
            return True
        if not all(_like_a_name(cell) for cell in self.first if cell):
            return False
        if not self.first[0] and _counts(self._column(0)):
            return True
        if len(self.below) >= 3 and any(
            self.first[i] and not is_number(self.first[i]) and all(map(is_number, self._column(i))) for i in count
        ):
            return True
        return len(self.below) >= _ENOUGH and not any(all(map(_like_a_name, row)) for row in self.below)

    def _named(self, i: int) -> bool:
        """Whether a column has a name, or needs none: it counts the rows, or is blank."""
        column = self._column(i)
        return bool(self.first[i]) or (bool(column) and likeness("", column) == "ids")

    def _column(self, i: int) -> list[str]:
        return [row[i] for row in self.below if i < len(row)]

    def _shown(self) -> str:
        return repr(", ".join(self.first)[:80])


def _like_a_name(cell: str) -> bool:
    """Whether a cell could be the name of a column: short, no sentence, no number."""
    cell = cell.strip()
    dense = sum(ord(character) >= 0x0E00 for character in cell)
    return (
        0 < len(cell) <= _LONGEST_NAME
        and len(cell.split()) <= _WORDS_OF_A_NAME
        and dense <= _LONGEST_NAME_OF_A_SYLLABARY
        and not _PUNCTUATION.search(cell)
        and not is_number(cell)
    )
