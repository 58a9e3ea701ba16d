"""Decide how a csv or tsv file is laid out, from its first rows: delimiter, quotes, and whether the first line holds names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from inbatch.data.formats.columns import role_of
from inbatch.data.formats.decoding import find_coding, lines_in
from inbatch.data.formats.delimited import (
    DELIMITERS,
    UNUSUAL,
    Broken,
    Layout,
    Quotes,
    cells_of,
    is_enclosed,
    name_of,
    needs_quotes,
)
from inbatch.data.formats.doubt import Doubt, Meaning
from inbatch.data.formats.header import Cells, find_names, width
from inbatch.data.formats.opening import open_bytes
from inbatch.errors import UsageError

_LINES = 1000
_CHARACTERS = 1 << 20
_ROWS = 100


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
    r"""Decide how a file is laid out; what is given is not decided again.

    Args:
        path: the file.
        columns: roles of the columns as the user set them: numbers are columns of a file without names, names those in its first line.
        encoding: its name.
        delimiter: one character, or a name out of `DELIMITERS` and `UNUSUAL`.
        quotes: what double quotes mean.
        header: whether the first line holds names.
        suffix: ``.tsv`` for a file that is expected to be separated by tabs.

    Raises:
        UsageError: if the file has no row, or a setting does not fit it.
        Doubt: if it can be read in several ways.

    Example:
        >>> _ = Path("faq.csv").write_text('question;answer\n"Tea; milk?";Both.\n')
        >>> print(find_layout(Path("faq.csv")))
        UTF-8; semicolon between cells; quotes enclose cells; names in the first line
    """
    with open_bytes(path) as file:
        coding = find_coding(file, path, encoding)
        head, whole = _head(lines_in(file, path, coding))
    marked = re.fullmatch(r'"?sep=(.)"?', head[0][1].strip("\r\n")) if head else None
    if marked:
        head = head[1:]
    if not any(text.strip() for _, text in head):
        raise UsageError(f"{path}: expected at least one row; the file has none.")
    if quotes is not None and quotes not in get_args(Quotes):
        raise UsageError(f"{path}: expected quotes to be one of {', '.join(get_args(Quotes))}; got {quotes!r}.")
    if delimiter is not None:
        delimiter = (DELIMITERS | UNUSUAL).get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise UsageError(
                f"{path}: expected delimiter to be one character or one of {', '.join(DELIMITERS)}; got {delimiter!r}."
            )
    reader = _Reader(str(path), head, whole, quotes)
    split = delimiter or (marked and marked[1]) or reader.find_delimiter("\t" if suffix == ".tsv" else ",")
    meant, watched = reader.find_quotes(split)
    cells = reader.parse(split, meant, ragged=True) or []
    named, names = find_names(str(path), cells, columns, header)
    if len(names) == 1 and columns is None and delimiter is None and not marked and not (named and role_of(names[0])):
        raise _single(str(path), reader, names[0], named)
    return Layout(coding, split, meant, named, names, bool(marked), watched)


def _head(found: Iterator[tuple[int, str]]) -> tuple[list[tuple[int, str]], bool]:
    """Read the first lines; whether they are all."""
    head: list[tuple[int, str]] = []
    size = 0
    for numbered in islice(found, _LINES):
        head.append(numbered)
        size += len(numbered[1])
        if size > _CHARACTERS:
            break
    return head, next(found, None) is None


class _Reader:
    """Tries delimiters and meanings of quotes on the first lines of a file."""

    def __init__(self, where: str, head: list[tuple[int, str]], whole: bool, quotes: Quotes | None) -> None:
        self.where, self.head, self.whole = where, head, whole
        self.quotes: Quotes | None = quotes
        self.has_quotes = any('"' in text for _, text in head)
        self.broken, self.unfinished = "", False
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
            self.unfinished = not self.whole and "unexpected end" in str(error) and bool(found)
            if not self.unfinished and not ragged:
                return None
        return found if ragged or width(found) else None

    def find_delimiter(self, usual: str) -> str:
        found = [each for each in DELIMITERS.values() if self._splits(each)]
        enclosed = [each for each in found if width(self.parse(each, "double") or []) > 1]
        if (
            self.has_quotes and enclosed
        ):  # quotes that explain all rows are no accident; only between tabs are they text as a rule
            found = [each for each in found if each in enclosed or each == "\t"]
        if len(found) > 1:
            found.sort(key=lambda each: (each != usual, each))
            meanings: list[Meaning] = [
                (f"if {name_of(each)} separates cells", {"delimiter": name_of(each)}) for each in found
            ]
            raise Doubt(self.where, f"{' and '.join(map(name_of, found))} may all stand between cells", meanings)
        return found[0] if found else usual

    def unusual_delimiters(self) -> list[str]:
        return [each for each in UNUSUAL.values() if self._splits(each)]

    def _splits(self, delimiter: str) -> bool:
        tries: list[Quotes] = [self.quotes] if self.quotes else ["double", "text"]
        if self.has_escapes and not self.quotes:
            tries.append("backslash")
        return any(width(self.parse(delimiter, quotes) or []) > 1 for quotes in tries)

    def find_quotes(self, delimiter: str) -> tuple[Quotes, bool]:
        """Return what quotes mean, and whether that is the rule of thumb only: text between tabs, else around cells."""
        usual: Quotes = "text" if delimiter == "\t" else "double"
        if self.quotes:
            return self.quotes, False
        if not self.has_quotes:
            return usual, True
        double, text = self.parse(delimiter, "double"), self.parse(delimiter, "text")
        if text and (self.unfinished or width(double or []) < min(2, width(text))):
            double = None  # a quotation mark swallows all that was read, or every delimiter
        escaped = self.parse(delimiter, "backslash") if self.has_escapes else None
        if double and (delimiter != "\t" or not text):
            return "double", False
        if not double:
            meanings: list[Meaning] = []
            if escaped and (text is None or any(cell.startswith('"') for row in text for cell in row)):
                meanings.append(("if quotes inside of cells stand behind backslashes", {"quotes": "backslash"}))
            if text and (meanings or delimiter != "\t"):
                meanings.append(("if quotes are text", {"quotes": "text"}))
            if meanings:
                why = f"{self.broken or 'the quotes do not fit'}. Put double quotes around cells and double those inside, or say what they are"
                raise Doubt(self.where, why, meanings)
            return usual, not text
        cells = [cell for row in text or [] for cell in row]
        meanings = [("if quotes enclose cells", {"quotes": "double"}), ("if they are text", {"quotes": "text"})]
        if text and (len(text), width(text)) != (len(double), width(double)):
            raise Doubt(self.where, "quotes may enclose cells that hold tabs or line ends", meanings)
        enclosed = any(map(needs_quotes, cells)) or any(all(map(is_enclosed, column)) for column in zip(*(text or [])))
        strays = any('"' in cell and not is_enclosed(cell) for cell in cells)
        if enclosed and strays:
            raise Doubt(self.where, "some quotes enclose cells, others do not", meanings)
        return ("double", False) if enclosed else ("text", not strays)


def _single(where: str, reader: _Reader, name: str, named: bool) -> Doubt:
    meanings: list[Meaning] = [
        (f"if {name_of(each)} separates cells", {"delimiter": name_of(each)}) for each in reader.unusual_delimiters()
    ]
    meanings.append(("if there is one column", {"columns": {"anchor": name if named else 0}}))
    return Doubt(where, f"a single column, {name[:80]!r}, and no delimiter among {', '.join(DELIMITERS)}", meanings)
