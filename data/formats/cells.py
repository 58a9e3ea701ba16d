"""What a cell of a data file becomes: a text, a list of texts or a number; and rows, checked, as Arrow batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from inbatch.data.formats.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS
from inbatch.data.formats.delimited import is_number, number_of
from inbatch.data.formats.nested import cell
from inbatch.errors import UsageError
from inbatch.text.texts import mended

ROWS_A_BATCH = 1000
ARROW = {TEXT: pa.string(), DIGITS: pa.string(), TEXTS: pa.list_(pa.string()), NUMBER: pa.float64()}

# A row and the number of the line that it starts on, or of the row, from 1.
Row = tuple[int, dict[str, Any]]


class Literal(str):
    """A number as its file writes it, so that it can be read as a number and as a text.

    Example:
        >>> price = Literal("2.50")
        >>> as_text(price), as_number(price)
        ('2.50', 2.5)
    """


class MixedColumn(Exception):
    """A column holds lists of texts, and the rows that were looked at held single ones; ``name`` is the column.

    Example:
        >>> rows = iter([(1, {"capital": "Rome"}), (2, {"capital": ["La Paz", "Sucre"]})])
        >>> list(batches("capitals.jsonl", rows, {"capital": TEXT}, pa.schema({"capital": pa.string()}), "line", str))
        Traceback (most recent call last):
        inbatch.data.formats.cells.MixedColumn: capital
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def as_text(value: Any) -> str | None:
    """Read a cell as a text: a number or truth value as the file writes it, null and not-a-number as missing.

    Raises:
        TypeError: if it is anything else.
        ValueError: if it is bytes that are no UTF-8.

    Example:
        >>> [as_text(value) for value in ("tea", 2.5, True, None, Literal("NaN"))]
        ['tea', '2.5', 'true', None, None]
    """
    if value is None or isinstance(value, str):
        return (None if value == "NaN" else str(value)) if isinstance(value, Literal) else value and mended(value)
    if isinstance(value, bytes):
        return mended(value.decode("utf-8", "surrogatepass"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, Decimal)):
        return None if value != value else str(value)
    raise TypeError


def as_texts(value: Any) -> list[str | None] | None:
    """Read a cell as a list of texts; a single one is a list of one.

    Raises:
        TypeError: if it or an item is anything else.
        ValueError: if an item is bytes that are no UTF-8.

    Example:
        >>> as_texts(["La Paz", 7, None]), as_texts("Rome")
        (['La Paz', '7', None], ['Rome'])
    """
    if isinstance(value, list):
        return [as_text(item) for item in value]
    text = as_text(value)
    return None if text is None else [text]


def as_number(value: Any) -> float:
    """Read a cell as a finite number.

    Raises:
        TypeError: if it is neither number nor text.
        ValueError: if the text is no number, or the number is not finite.

    Example:
        >>> as_number("2,5"), as_number("-3"), as_number(7)
        (2.5, -3.0, 7.0)
    """
    number = number_of(value) if isinstance(value, str) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


READ: dict[str, Callable[[Any], Any]] = {TEXT: as_text, DIGITS: as_text, TEXTS: as_texts, NUMBER: as_number}


def kind_of(values: list[Any]) -> str:
    """Name what cells of one column hold, as `inbatch.data.formats.columns` does; nulls say nothing.

    Numbers in texts, with blank ones among them or not, are `DIGITS`. Where texts stand among numbers or other things, the column is one of texts, and where lists of
    texts do, one of lists: what cannot be read as such is refused with its place.

    Example:
        >>> [kind_of(cells) for cells in ([2.5, None], ["2.5", " "], ["tea", 7], ["Rome", ["La Paz", "Sucre"]])]
        ['number', 'number as text', 'text', 'list of texts']
    """
    present = [value for value in values if value is not None]
    lists = [value for value in present if isinstance(value, list)]
    items = [item for value in lists for item in value]
    texts = any(_is_text(value) for value in [*items, *present])
    if lists:
        return TEXTS if texts or not (items or len(lists) < len(present)) else OTHER
    if not present or (not texts and any(isinstance(value, dict) for value in present)):
        return OTHER
    if not texts:
        return NUMBER
    filled = [value for value in present if not isinstance(value, str) or value.strip()]
    return DIGITS if filled and all(isinstance(value, str) and is_number(value) for value in filled) else TEXT


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Literal)


def batches(
    path: str | Path,
    rows: Iterator[Row],
    wanted: Mapping[str, str],
    schema: pa.Schema,
    word: str,
    remedy: Callable[[int], str],
) -> Iterator[pa.RecordBatch]:
    """Check the cells of the wanted columns, and put them into batches.

    Args:
        path: for messages.
        rows: with names of columns, or of what nests in them.
        wanted: what each column to read shall hold.
        schema: of the batches.
        word: what numbers count, for messages: line or row.
        remedy: says what mends the row of a number.

    Raises:
        MixedColumn: at a list where a text is wanted.
        UsageError: at any other cell that cannot be read as what is wanted.

    Example:
        >>> rows = iter([(1, {"drink": "tea", "price": "2,5"}), (2, {"drink": "milk", "price": "cheap"})])
        >>> wanted, schema = {"drink": TEXT, "price": NUMBER}, pa.schema({"drink": pa.string(), "price": pa.float64()})
        >>> list(batches("menu.csv", rows, wanted, schema, "line", "Mend line {}.".format))
        Traceback (most recent call last):
        inbatch.errors.UsageError: menu.csv, line 2, column price: expected a number; got 'cheap'. Mend line 2.
    """
    while part := list(islice(rows, ROWS_A_BATCH)):
        columns: dict[str, list[Any]] = {name: [] for name in wanted}
        for number, row in part:
            for name, values in columns.items():
                value = row[name] if name in row else cell(row, name)
                try:
                    values.append(READ[wanted[name]](value))
                except (TypeError, ValueError):
                    if isinstance(value, list) and wanted[name] in (TEXT, DIGITS) and kind_of([value]) == TEXTS:
                        raise MixedColumn(name) from None
                    raise UsageError(
                        f"{path}, {word} {number}, column {name}: expected a {wanted[name]}; got {str(value)[:60]!r}. {remedy(number)}"
                    ) from None
        yield pa.record_batch(columns, schema=schema)
