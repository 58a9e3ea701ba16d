"""Read data files row by row, with the place of every error: txt, csv, tsv, jsonl, parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from inbatch.data.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS, Roles
from inbatch.errors import UsageError

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
_ROWS_A_BATCH = 1000
_ROWS_PEEKED = 100
_LONGEST_HEADER = 40
_ARROW = {TEXT: pa.string(), DIGITS: pa.string(), TEXTS: pa.list_(pa.string()), NUMBER: pa.float64()}

# A row and the number of the line that it starts on, from 1.
Row = tuple[int, dict[str, Any]]


def peek(path: Path, header: bool = True) -> dict[str, str]:
    """Find what each column of a file holds, from its first rows or its schema.

    Args:
        path: a file with one of `SUFFIXES`.
        header: whether the first line of a csv or tsv file names the columns; they are called 0, 1, … where not.

    Returns:
        One of the kinds that `inbatch.data.columns` names a column, in the order of the file.

    Raises:
        UsageError: if the file is empty, is not UTF-8, or is not what its suffix says.
    """
    if path.suffix == ".parquet":
        return {field.name: arrow_kind(field.type) for field in _open_parquet(path).schema_arrow}
    rows = [row for _, row in islice(_rows(path, header), _ROWS_PEEKED)]
    if not rows:
        raise UsageError(f"{path}: expected at least one row; the file has none.")
    return {name: _kind([row[name] for row in rows], path.suffix) for name in rows[0]}


def read(
    path: Path, kinds: Mapping[str, str], roles: Roles, header: bool = True
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Read the columns that have a role.

    Args:
        path: a file with one of `SUFFIXES`.
        kinds: what `peek` found.
        roles: says which columns are read, and which is read as numbers.
        header: as for `peek`.

    Returns:
        The schema, and the rows in batches. A missing text (null) is kept as null.

    Raises:
        UsageError: while the batches are read: at the first row with another number of columns, or a cell of another kind.
    """
    wanted = {name: NUMBER if name == roles.score else kinds[name] for name in roles.used}
    schema = pa.schema({name: _ARROW[kind] for name, kind in wanted.items()})
    if path.suffix == ".parquet":
        parquet = _open_parquet(path)
        tables = parquet.iter_batches(_ROWS_A_BATCH, columns=list(wanted))
        return schema, (batch.select(list(wanted)).cast(schema) for batch in tables)
    return schema, _batches(path, _rows(path, header), wanted, schema)


def arrow_kind(arrow: pa.DataType) -> str:
    """Name what an Arrow type holds, as `peek` does."""
    if pa.types.is_dictionary(arrow):
        return arrow_kind(arrow.value_type)
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return TEXT
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return TEXTS if arrow_kind(arrow.value_type) == TEXT else OTHER
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_boolean(arrow):
        return NUMBER
    return OTHER


def _rows(path: Path, header: bool) -> Iterator[Row]:
    lines = _lines(path)
    if path.suffix == ".txt":
        return ((number, {"text": line.rstrip("\r\n")}) for number, line in lines)
    if path.suffix == ".jsonl":
        return _json_rows(path, lines)
    return _csv_rows(path, lines, header)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decode a file line by line; only ``\\n`` ends a line, so that other marks inside of a sentence stay there."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{path}, line {number}: expected UTF-8; byte {error.start + 1} of the line is 0x{line[error.start]:02x}. "
                    f"Convert it, for example: iconv -f latin1 -t utf-8 {path.name}"
                ) from None


def _csv_rows(path: Path, lines: Iterator[tuple[int, str]], header: bool) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # the module's own limit, 131,072 characters, is shorter than some documents
    # Tab-separated files of the field hold quotation marks as text (STS-B); comma-separated ones follow RFC 4180.
    options: dict[str, Any] = (
        {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {"strict": True}
    )
    reader = csv.reader((line for _, line in lines), **options)
    names: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(
                f"{path}, line {number}: {error}. Put double quotes around cells and double those inside."
            ) from None
        if not cells:
            continue
        if names is None:
            names = _header(path, cells) if header else [str(i) for i in range(len(cells))]
            if header:
                continue
        if len(cells) != len(names):
            raise UsageError(
                f"{path}, line {number}: expected {len(names)} columns, as in the first line; got {len(cells)}."
            )
        yield number, dict(zip(names, cells))


def _header(path: Path, cells: list[str]) -> list[str]:
    """Take the first line as column names, unless it looks like data: then a row would be lost without a word."""
    bad = [cell for cell in cells if not cell.strip() or len(cell) > _LONGEST_HEADER or len(cell.split()) > 3]
    if bad or len(set(cells)) < len(cells) or all(_is_number(cell) for cell in cells):
        raise UsageError(
            f"{path}: expected the names of the columns in the first line; got {', '.join(cells)[:120]!r}. Add such a line, or "
            "number the columns from 0, for example columns: {anchor: 0, positive: 1}, for a file without one."
        )
    return cells


def _json_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    names: set[str] | None = None
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path}, line {number}: expected one JSON object a line; {error.msg} at character {error.pos + 1}."
            ) from None
        if not isinstance(row, dict) or not row:
            raise UsageError(
                f'{path}, line {number}: expected an object such as {{"anchor": …}}; got {line.strip()[:60]}.'
            )
        names = names or set(row)
        if set(row) != names:
            missing, extra = sorted(names - set(row)), sorted(set(row) - names)
            raise UsageError(
                f"{path}, line {number}: expected the same keys as in the first row; "
                f"missing: {', '.join(missing) or 'none'}; new: {', '.join(extra) or 'none'}."
            )
        yield number, row


def _batches(path: Path, rows: Iterator[Row], wanted: Mapping[str, str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    check: dict[str, Callable[[Any], Any]] = {name: _CHECKS[kind] for name, kind in wanted.items()}
    while part := list(islice(rows, _ROWS_A_BATCH)):
        columns: dict[str, list[Any]] = {name: [] for name in wanted}
        for number, row in part:
            for name, values in columns.items():
                try:
                    values.append(check[name](row[name]))
                except (TypeError, ValueError):
                    raise UsageError(
                        f"{path}, line {number}, column {name}: expected a {wanted[name]}; got {str(row[name])[:60]!r}. "
                        "Mend the row, or set columns to other ones."
                    ) from None
        yield pa.record_batch(columns, schema=schema)


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    # A lone surrogate, as in the JSON string "\ud800", cannot be written in UTF-8.
    return value if value is None or value.isascii() else value.encode("utf-8", "replace").decode()


def _texts(value: Any) -> list[str | None] | None:
    if value is not None and not isinstance(value, list):
        raise TypeError
    return None if value is None else [_text(item) for item in value]


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


_CHECKS: dict[str, Callable[[Any], Any]] = {TEXT: _text, DIGITS: _text, TEXTS: _texts, NUMBER: _number}


def _kind(values: list[Any], suffix: str) -> str:
    present = [value for value in values if value is not None]
    if not present:
        return TEXT
    if suffix in (".csv", ".tsv"):
        return DIGITS if all(_is_number(value) for value in present) else TEXT
    if all(isinstance(value, list) for value in present):
        return TEXTS if all(isinstance(item, str) for value in present for item in value) else OTHER
    if all(isinstance(value, (int, float)) for value in present):
        return NUMBER
    return TEXT if any(isinstance(value, str) for value in present) else OTHER


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _open_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: expected a parquet file; {str(error).splitlines()[0]}.") from None
