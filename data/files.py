"""Read data files row by row, with the place of every error: txt, csv, tsv, jsonl, json, parquet, each also compressed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from inbatch.data.arrow import convert, open_parquet, schema_kinds
from inbatch.data.cells import ARROW, ROWS_A_BATCH, Row, batches, is_number, kind_of
from inbatch.data.columns import DIGITS, NUMBER, TEXT, Roles, as_option
from inbatch.data.json_rows import check_whole, is_stream, line_rows, stream_rows, without_line
from inbatch.data.nested import cell, kinds_of
from inbatch.data.opening import open_bytes, suffix_of
from inbatch.errors import UsageError

# Of the formats; behind each may stand one of `inbatch.data.opening.COMPRESSIONS`.
SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
_JSON = (".jsonl", ".json")
_ROWS_PEEKED = 100
_LONGEST_HEADER = 40


def peek(path: Path, header: bool = True) -> dict[str, str]:
    """Find what each column of a file holds, from its first rows or its schema.

    Args:
        path: a file with one of `SUFFIXES`.
        header: whether the first line of a csv or tsv file names the columns; they are called 0, 1, … where not.

    Returns:
        One of the kinds that `inbatch.data.columns` names a column, in the order of the file; behind a nested column, and by dotted names,
        what its fields hold.

    Raises:
        UsageError: if the file is empty, is not UTF-8, or is not what its suffix says.
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        return schema_kinds(open_parquet(path).schema_arrow)
    rows = [row for _, row in islice(_rows(path, header), _ROWS_PEEKED)]
    if not rows:
        raise UsageError(f"{path}: expected at least one row; the file has none.")
    if suffix in _JSON:
        check_whole(path, rows)
        return kinds_of(rows, kind_of)
    if suffix == ".txt":
        return {"text": TEXT}
    return {name: DIGITS if all(is_number(row[name]) for row in rows) else TEXT for name in rows[0]}


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
        MixedColumn: while the batches are read: at the first list where the rows that `peek` saw have single texts.
    """
    wanted = wanted_kinds(kinds, roles)
    schema = pa.schema({name: ARROW[kind] for name, kind in wanted.items()})
    suffix = suffix_of(path)
    if suffix == ".parquet":
        parquet = open_parquet(path)
        whole = parquet.schema_arrow
        tops = [name for name in whole.names if any(f"{used}.".startswith(f"{name}.") for used in wanted)]
        tables = (pa.Table.from_batches([batch]) for batch in parquet.iter_batches(ROWS_A_BATCH, columns=tops))
        return schema, convert(path, tables, whole, wanted, schema)
    rows = _rows(path, header)
    if suffix in _JSON and roles.how != "as set":
        rows = _same_keys(path, rows, kinds, roles)

    def remedy(number: int) -> str:
        if suffix == ".jsonl" and not is_stream(path):
            return f"Mend the row, set columns to other ones, or read the file without it: {without_line(path, number)}"
        return "Mend the row, or set columns to other ones."

    return schema, batches(path, rows, wanted, schema, "line", remedy)


def wanted_kinds(kinds: Mapping[str, str], roles: Roles) -> dict[str, str]:
    """Say as what each column with a role is read: the score as numbers, numbers in another role as texts."""
    return {
        name: NUMBER if name == roles.score else TEXT if kinds[name] == NUMBER else kinds[name] for name in roles.used
    }


def _same_keys(path: Path, rows: Iterable[Row], kinds: Mapping[str, str], roles: Roles) -> Iterator[Row]:
    """Go through rows whose roles were found from the first ones, and refuse keys that these did not have."""
    for number, row in rows:
        new = [name for name in row if name not in kinds]
        gone = [name for name in roles.used if name not in row and cell(row, name) is None]
        missing = gone if roles.how == "by order" else []
        if new or missing:
            raise UsageError(
                f"{path}, line {number}: expected the keys of the first rows, since their roles were found {roles.how}; missing: "
                f"{', '.join(missing) or 'none'}; new: {', '.join(new) or 'none'}. Other keys are left out, and a missing text is an empty "
                f"one, where roles are set: {as_option(str(path), roles.setting)}"
            )
        yield number, row


def _rows(path: Path, header: bool) -> Iterator[Row]:
    suffix = suffix_of(path)
    if suffix in _JSON and is_stream(path):
        return stream_rows(path)
    lines = _lines(path)
    if suffix == ".txt":
        return ((number, {"text": line.rstrip("\r\n")}) for number, line in lines)
    return line_rows(path, lines) if suffix in _JSON else _csv_rows(path, lines, header)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decode a file line by line; only ``\\n`` ends a line, so that other marks inside of a sentence stay there."""
    with open_bytes(path) as file:
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
        {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if suffix_of(path) == ".tsv" else {"strict": True}
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
    if bad or len(set(cells)) < len(cells) or all(is_number(cell) for cell in cells):
        raise UsageError(
            f"{path}: expected the names of the columns in the first line; got {', '.join(cells)[:120]!r}. Add such a line, or "
            "number the columns from 0, for example columns: {anchor: 0, positive: 1}, for a file without one."
        )
    return cells
