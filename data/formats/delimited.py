"""Read csv and tsv files row by row, once it is decided how they are laid out."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from inbatch.data.formats.decoding import Coding, lines
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError

# What a double quote at the beginning of a cell means: it encloses the cell, and quotes inside are doubled or stand behind a backslash;
# or it is text as any other.
Quotes = Literal["double", "backslash", "text"]

# What pandas takes for a missing text, beside an empty one.
NA = {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
NA |= {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
# Never looked for, but proposed where a file has a single column without any of those above.
UNUSUAL = {"tilde": "~", "caret": "^", "colon": ":", "hash": "#", "control-a": "\x01", "unit-separator": "\x1f"}
# Not 1,000, which may be a thousand.
_DECIMAL_COMMA = re.compile(r"[+-]?(?!0*[1-9]\d{0,2},\d{3}$)\d+,\d+")
# No text holds it: `inbatch.data.formats.decoding` refuses it.
_HIDDEN = "\0"
_ENCLOSED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Layout:
    """How a csv or tsv file is laid out.

    Attributes:
        coding: how its bytes are read.
        delimiter: the character between cells.
        quotes: what a double quote at the beginning of a cell means.
        header: whether the first line names the columns.
        names: of the columns; numbers from 0 where there is no such line.
        marked: whether a line ``sep=`` of Excel stands before all others.
        watched: whether nothing in the first rows says what quotes mean, so that later rows may.

    Example:
        >>> print(Layout(Coding(), delimiter=";", quotes="double", header=True, names=("question", "answer")))
        UTF-8; semicolon between cells; quotes enclose cells; names in the first line
    """

    coding: Coding
    delimiter: str
    quotes: Quotes
    header: bool
    names: tuple[str, ...]
    marked: bool = False
    watched: bool = False

    def __str__(self) -> str:
        quotes = {
            "double": "quotes enclose cells",
            "backslash": "quotes enclose cells, those inside stand behind a backslash",
            "text": "quotes are text",
        }
        names = "names in the first line" if self.header else "no names in the first line"
        return f"{self.coding}; {name_of(self.delimiter)} between cells; {quotes[self.quotes]}; {names}"


class Broken(ValueError):
    """A row that the csv rules do not allow, with the number of its line.

    Example:
        >>> try:
        ...     list(cells_of([(7, 'tea,"green" leaves')], ",", "double"))
        ... except Broken as error:
        ...     print("line", error.number)
        line 7
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


def name_of(delimiter: str) -> str:
    r"""Return the name under which a delimiter is set: a word for those that a shell or YAML would misread.

    Example:
        >>> name_of("\t"), name_of("@")
        ('tab', '@')
    """
    return next((name for name, character in (DELIMITERS | UNUSUAL).items() if character == delimiter), delimiter)


def cells_of(numbered: Iterable[tuple[int, str]], delimiter: str, quotes: Quotes) -> Iterator[tuple[int, list[str]]]:
    r"""Split lines into rows of cells, each with the number of the line that it starts on; blank lines are none.

    Args:
        numbered: lines with their numbers and ends.
        delimiter: the character between cells.
        quotes: whether a cell may be enclosed, and so hold delimiters and line ends (RFC 4180).

    Raises:
        Broken: at a quotation mark where none may stand.

    Example:
        >>> list(cells_of([(1, 'tea,"green, loose"\n'), (2, "\n"), (3, "milk,cold\n")], ",", "double"))
        [(1, ['tea', 'green, loose']), (3, ['milk', 'cold'])]
        >>> list(cells_of([(1, 'tea,"green, loose"\n')], ",", "text"))
        [(1, ['tea', '"green', ' loose"'])]
    """
    csv.field_size_limit(2**31 - 1)  # the module's own limit, 131,072 characters, is shorter than some documents
    special = {"double": '"', "backslash": '"\\', "text": ""}[quotes]
    rest = iter(numbered)
    for number, line in rest:
        if not any(mark in line for mark in special):  # the reader would refuse a carriage return inside of such a line
            if line := line.rstrip("\r\n"):
                yield number, line.split(delimiter)
            continue
        options: dict[str, Any] = {"escapechar": "\\", "doublequote": False} if quotes == "backslash" else {}
        if re.search(re.escape(delimiter) + ' +"', line):
            options["skipinitialspace"] = True
        record = chain([line], (text for _, text in rest))
        try:
            reader = csv.reader(map(_hide_returns, record), delimiter=delimiter, strict=True, **options)
            cells = next(reader)
        except csv.Error as error:
            raise Broken(number, str(error)) from None
        yield number, [cell.replace(_HIDDEN, "\r") for cell in cells]


def _hide_returns(line: str) -> str:
    """Keep the carriage returns inside of a line from the csv module, which takes them for its end."""
    end = len(line.rstrip("\r\n"))
    return line[:end].replace("\r", _HIDDEN) + line[end:]


def needs_quotes(cell: str) -> bool:
    """Whether a cell, split at delimiters alone, is one that a writer enclosed because of what it holds: doubled quotes, or a line end.

    Example:
        >>> needs_quotes('"a 5"" plate"'), needs_quotes('"tea"')
        (True, False)
    """
    return bool(_ENCLOSED.fullmatch(cell)) and ('""' in cell[1:-1] or "\r" in cell)


def is_enclosed(cell: str) -> bool:
    """Whether quotes stand around a cell, split at delimiters alone, and all others inside are doubled.

    Example:
        >>> is_enclosed('"tea"'), is_enclosed('"green" tea')
        (True, False)
    """
    return bool(_ENCLOSED.fullmatch(cell))


def number_of(cell: str) -> float:
    """Return the number that a cell holds; a comma may stand for the decimal point, as German or French programs write it.

    Raises:
        ValueError: if it is none.

    Example:
        >>> number_of("2,50"), number_of("-3")
        (2.5, -3.0)
    """
    return float(cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell.strip()) else cell)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number.

    Example:
        >>> is_number("2,50"), is_number("1,000"), is_number("three")  # 1,000 may be a thousand
        (True, False, False)
    """
    try:
        number_of(cell)
    except ValueError:
        return False
    return True


def rows(path: Path, layout: Layout) -> Iterator[tuple[int, dict[str, str]]]:
    r"""Yield the rows of a file, each with the number of the line that it starts on.

    Raises:
        UsageError: at the first row with another number of cells, or with quotation marks that do not fit.

    Example:
        >>> _ = Path("menu.csv").write_text("drink;price\ntea;2,50\nmilk;1,20\n")
        >>> list(rows(Path("menu.csv"), Layout(Coding(), ";", "double", header=True, names=("drink", "price"))))
        [(2, {'drink': 'tea', 'price': '2,50'}), (3, {'drink': 'milk', 'price': '1,20'})]
    """
    numbered = lines(path, layout.coding)
    for _ in range(layout.marked):
        next(numbered, None)
    found = cells_of(numbered, layout.delimiter, layout.quotes)
    try:
        if layout.header:
            next(found, None)
        for number, cells in found:
            fits = len(cells) == len(layout.names)
            if (
                layout.watched
                and layout.quotes == "text"
                and any(needs_quotes(cell) or (not fits and cell.startswith('"')) for cell in cells)
            ):
                meanings: Any = [
                    ("if quotes enclose cells", {"quotes": "double"}),
                    ("if they are text", {"quotes": "text"}),
                ]
                raise Doubt(str(path), f"line {number}: a cell in quotes, where no row before has one", meanings)
            if not fits:
                raise UsageError(
                    f"{path}, line {number}: expected {len(layout.names)} columns, as in the first line; got {len(cells)}."
                )
            yield number, dict(zip(layout.names, cells))
    except Broken as error:
        place = f"line {error.number}: {error}. Put double quotes around cells and double those inside"
        if not layout.watched:
            raise UsageError(f"{path}, {place}.") from None
        meanings = [("if quotes are text", {"quotes": "text"})]
        raise Doubt(str(path), f"{place}, or say what they are", meanings) from None
