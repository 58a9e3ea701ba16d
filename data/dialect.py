"""Decide how a csv or tsv file is laid out, from its first rows: delimiter, quotes, and whether the first line holds names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from inbatch.data.columns import role_of
from inbatch.data.decoding import find_coding, lines
from inbatch.data.delimited import (
    DELIMITERS,
    Broken,
    Layout,
    Quotes,
    cells_of,
    is_enclosed,
    is_number,
    name_of,
    needs_quotes,
)
from inbatch.data.doubt import Doubt, Meaning
from inbatch.data.ids import likeness
from inbatch.errors import UsageError

_LINES = 1000
_CHARACTERS = 1 << 20
_ROWS = 100
# Without known names: so many rows, none of which could be a line of names, tell the first line from a row.
_ENOUGH = 20
_LONGEST_NAME = 40
_WORDS_OF_A_NAME = 3
# Scripts without blanks between words need fewer characters for a sentence.
_LONGEST_NAME_OF_A_SYLLABARY = 8
_PUNCTUATION = re.compile(r"[.!?…。！？؟।](\s|$)|[,;،，、；]\s")
_UNUSUAL = "~^:#\x01\x1f¦§"

Cells = list[list[str]]


def find_layout(
    path: Path,
    columns: Mapping[str, Any] | None = None,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    header: bool | None = None,
    suffix: str = ".csv",
) -> Layout:
    """Decide how a file is laid out; what is given is not decided again.

    Args:
        path: the file.
        columns: roles of the columns as the user set them: numbers are columns of a file without names, names those in its first line.
        encoding: its name.
        delimiter: one character, or a name out of `DELIMITERS`.
        quotes: what double quotes mean.
        header: whether the first line holds names.
        suffix: ``.tsv`` for a file that is expected to be separated by tabs.

    Raises:
        UsageError: if the file has no row, or a setting does not fit it.
        Doubt: if it can be read in several ways.
    """
    coding = find_coding(path, encoding)
    head, whole = _head(path, coding)
    marked = re.fullmatch(r'"?sep=(.)"?', head[0][1].strip("\r\n")) if head else None
    if marked:
        head = head[1:]
    if not any(text.strip() for _, text in head):
        raise UsageError(f"{path}: expected at least one row; the file has none.")
    if quotes is not None and quotes not in get_args(Quotes):
        raise UsageError(f"{path}: expected quotes to be one of {', '.join(get_args(Quotes))}; got {quotes!r}.")
    if delimiter is not None:
        delimiter = DELIMITERS.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise UsageError(
                f"{path}: expected delimiter to be one character or one of {', '.join(DELIMITERS)}; got {delimiter!r}."
            )
    reader = _Reader(str(path), head, whole, quotes)
    split = delimiter or (marked and marked[1]) or reader.find_delimiter("\t" if suffix == ".tsv" else ",")
    meant, watched = reader.find_quotes(split)
    cells = reader.parse(split, meant, ragged=True) or []
    named, names = _Names(str(path), cells, columns).find(header)
    if len(names) == 1 and columns is None and delimiter is None and not marked and not (named and role_of(names[0])):
        raise _single(str(path), reader, names[0], named)
    return Layout(coding, split, meant, named, names, bool(marked), watched)


def _head(path: Path, coding: Any) -> tuple[list[tuple[int, str]], bool]:
    """Read the first lines; whether they are all."""
    head: list[tuple[int, str]] = []
    size = 0
    found = lines(path, coding)
    for numbered in islice(found, _LINES):
        head.append(numbered)
        size += len(numbered[1])
        if size > _CHARACTERS:
            break
    return head, next(found, None) is None


class _Reader:
    """Tries delimiters and meanings of quotes on the first lines of a file."""

    def __init__(self, where: str, head: list[tuple[int, str]], whole: bool, quotes: Quotes | None) -> None:
        self.where, self.head, self.whole, self.quotes = where, head, whole, quotes
        self.has_quotes = any('"' in text for _, text in head)
        self.broken = ""
        self.has_escapes = any('\\"' in text for _, text in head)

    def parse(self, delimiter: str, quotes: Quotes, ragged: bool = False) -> Cells | None:
        """Split the first lines into rows; None where that breaks, or (unless ``ragged``) rows have different numbers of cells."""
        found: Cells = []
        try:
            for _, cells in islice(cells_of(self.head, delimiter, quotes), _ROWS):
                found.append(cells)
        except Broken as error:
            if quotes == "double":
                self.broken = f"line {error.number}: {error}"
            unfinished = not self.whole and "unexpected end" in str(error) and found
            if not unfinished and not ragged:
                return None
        return found if ragged or _width(found) else None

    def find_delimiter(self, usual: str) -> str:
        found = [each for each in DELIMITERS.values() if self._splits(each)]
        if len(found) > 1:
            found.sort(key=lambda each: (each != usual, each))
            meanings: list[Meaning] = [
                (f"if {name_of(each)} separates", {"delimiter": name_of(each)}) for each in found
            ]
            raise Doubt(self.where, f"{' and '.join(map(name_of, found))} may all stand between cells", meanings)
        return found[0] if found else usual

    def unusual_delimiters(self) -> list[str]:
        return [each for each in _UNUSUAL if self._splits(each)]

    def _splits(self, delimiter: str) -> bool:
        tries = [self.quotes] if self.quotes else ["double", "text", *(["backslash"] if self.has_escapes else [])]
        for quotes in tries:
            cells = self.parse(delimiter, quotes)
            if cells and _width(cells) > 1:
                return True
        return False

    def find_quotes(self, delimiter: str) -> tuple[Quotes, bool]:
        """Return what quotes mean, and whether that is the rule of thumb only: text between tabs, else around cells."""
        usual: Quotes = "text" if delimiter == "\t" else "double"
        if self.quotes:
            return self.quotes, False
        if not self.has_quotes:
            return usual, True
        double, text = self.parse(delimiter, "double"), self.parse(delimiter, "text")
        escaped = self.parse(delimiter, "backslash") if self.has_escapes else None
        if double and (delimiter != "\t" or not text):
            return "double", False
        if not double:
            meanings: list[Meaning] = []
            if escaped and (text is None or any(cell.startswith('"') for row in text for cell in row)):
                meanings.append(("if quotes inside of cells stand behind a backslash", {"quotes": "backslash"}))
            if text and (meanings or delimiter != "\t"):
                meanings.append(("if quotes are text", {"quotes": "text"}))
            if meanings:
                why = f"{self.broken or 'the quotes do not fit'}. Put double quotes around cells and double those inside, or say what they are"
                raise Doubt(self.where, why, meanings)
            return usual, not text
        cells = [cell for row in text or [] for cell in row]
        enclosed = any(map(needs_quotes, cells)) or any(all(map(is_enclosed, column)) for column in zip(*(text or [])))
        strays = any('"' in cell and not is_enclosed(cell) for cell in cells)
        if enclosed and strays:
            raise Doubt(
                self.where,
                "some quotes enclose cells, others do not",
                [("if they are text", {"quotes": "text"}), ("if not", {"quotes": "double"})],
            )
        return ("double", False) if enclosed else ("text", not strays)


def _width(cells: Cells) -> int:
    """Return the number of cells of every row, 0 where they differ; a first row may lack the name of a running number, as R writes it."""
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


class _Names:
    """Decides whether the first row holds names."""

    def __init__(self, where: str, cells: Cells, columns: Mapping[str, Any] | None) -> None:
        self.where, self.below = where, cells[1:]
        self.first = [cell.strip() for cell in cells[0]]
        if self.below and all(len(row) == len(self.first) + 1 for row in self.below) and _width(cells):
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
                    ("if the first line holds names", {"header": True}),
                    ("if not", {"header": False}),
                ]
                raise Doubt(self.where, f"columns are set by numbers, and the first line is {self._shown()}", meanings)
            return False
        if sure or (self.set and self.set <= set(self.first)):
            return True
        meanings = [("if it holds names", {"header": True}), ("if it is a row", {"header": False})]
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


def _single(where: str, reader: _Reader, name: str, named: bool) -> Doubt:
    meanings: list[Meaning] = [(f"if {each!r} separates", {"delimiter": each}) for each in reader.unusual_delimiters()]
    meanings.append(("if that is all", {"columns": {"anchor": name if named else 0}}))
    return Doubt(where, f"a single column, {name[:80]!r}, and no delimiter among {', '.join(DELIMITERS)}", meanings)


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
