"""Read data files row by row, with the place of every error: txt, jsonl and parquet here, csv and tsv by `inbatch.data.delimited`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from inbatch.data import delimited
from inbatch.data.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS, Roles
from inbatch.data.decoding import Coding, find_coding, lines
from inbatch.data.delimited import NA, Layout, is_number, number_of
from inbatch.data.dialect import find_layout
from inbatch.errors import UsageError

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
DELIMITED = (".csv", ".tsv")
_ROWS_A_BATCH = 1000
_ROWS_PEEKED = 100
_ARROW = {TEXT: pa.string(), DIGITS: pa.string(), TEXTS: pa.list_(pa.string()), NUMBER: pa.float64()}

# A row and the number of the line that it starts on, from 1.
Row = tuple[int, dict[str, Any]]


# How the bytes of a file become rows: of a csv or tsv file, of another text file, of a parquet file.
Reading = Layout | Coding | None


def look(path: Path, columns: Mapping[str, Any] | None = None, **given: Any) -> Reading:
    """Decide how a file is read, from its first bytes and rows.

    Args:
        path: a file with one of `SUFFIXES`.
        columns: which column plays which role, as set.
        given: ``encoding`` of a text file; ``delimiter``, ``quotes`` and ``header`` of a csv or tsv file; None is not given.

    Raises:
        UsageError: if a setting is not one of this kind of file, or what `inbatch.data.dialect.find_layout` refuses.
    """
    allowed = {".parquet": ()}.get(path.suffix, ("encoding", "delimiter", "quotes", "header"))
    allowed = allowed if path.suffix in DELIMITED else allowed[:1]
    for name, value in given.items():
        if value is not None and name not in allowed:
            kind = "text" if name == "encoding" else "csv and tsv"
            raise UsageError(f"{path}: {name} is a setting of {kind} files. Remove it from this source.")
    if path.suffix == ".parquet":
        return None
    if path.suffix in DELIMITED:
        return find_layout(path, columns, suffix=path.suffix, **given)
    return find_coding(path, given.get("encoding"))


def peek(path: Path, reading: Reading = None) -> dict[str, str]:
    """Find what each column of a file holds, from its first rows or its schema.

    Args:
        path: a file with one of `SUFFIXES`.
        reading: what `look` said; None asks it.

    Returns:
        One of the kinds that `inbatch.data.columns` names a column, in the order of the file.

    Raises:
        UsageError: if the file is empty, is not in its encoding, or is not what its suffix says.
    """
    if path.suffix == ".parquet":
        return {field.name: arrow_kind(field.type) for field in _open_parquet(path).schema_arrow}
    return {name: _kind(cells, path.suffix) for name, cells in first_cells(path, reading).items()}


def first_cells(path: Path, reading: Reading = None) -> dict[str, list[Any]]:
    """Return the cells of the first rows, by column; the arguments are those of `peek`.

    Raises:
        UsageError: as `peek` does.
    """
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = next(_open_parquet(path).iter_batches(_ROWS_PEEKED), pa.table({})).to_pylist()
    else:
        rows = [row for _, row in islice(_rows(path, reading or look(path)), _ROWS_PEEKED)]
        if not rows:
            raise UsageError(f"{path}: expected at least one row; the file has none.")
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def read(
    path: Path, kinds: Mapping[str, str], roles: Roles, reading: Reading = None, na_as_empty: bool = False
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Read the columns that have a role.

    Args:
        path: a file with one of `SUFFIXES`.
        kinds: what `peek` found.
        roles: says which columns are read, and which is read as numbers.
        reading: as for `peek`.
        na_as_empty: read NA, null, nan and what else pandas takes for a missing text in a csv or tsv file as an empty one.

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
    rows = _rows(path, reading or look(path))
    if na_as_empty:
        rows = ((number, {name: "" if cell in NA else cell for name, cell in row.items()}) for number, row in rows)
    return schema, _batches(path, rows, wanted, schema)


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


def _rows(path: Path, reading: Reading) -> Iterator[Row]:
    if isinstance(reading, Layout):
        return delimited.rows(path, reading)
    assert reading is not None, "a text file has an encoding"
    if path.suffix == ".txt":
        return ((number, {"text": line.rstrip("\r\n")}) for number, line in lines(path, reading))
    return _json_rows(path, lines(path, reading))


def _json_rows(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[Row]:
    names: set[str] | None = None
    for number, line in numbered:
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
    number = number_of(value) if isinstance(value, str) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


_CHECKS: dict[str, Callable[[Any], Any]] = {TEXT: _text, DIGITS: _text, TEXTS: _texts, NUMBER: _number}


def _kind(values: list[Any], suffix: str) -> str:
    present = [value for value in values if value is not None]
    if not present:
        return TEXT
    if suffix in DELIMITED:
        filled = [value for value in present if value.strip()]
        return DIGITS if filled and all(map(is_number, filled)) else TEXT
    if all(isinstance(value, list) for value in present):
        return TEXTS if all(isinstance(item, str) for value in present for item in value) else OTHER
    if all(isinstance(value, (int, float)) for value in present):
        return NUMBER
    return TEXT if any(isinstance(value, str) for value in present) else OTHER


def _open_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: expected a parquet file; {str(error).splitlines()[0]}.") from None
