"""Read data files row by row, with the place of every error: txt, csv, tsv, jsonl, json, parquet, each also compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from inbatch.data.formats import delimited
from inbatch.data.formats.arrow import cells_of, convert, open_parquet, schema_kinds, tops
from inbatch.data.formats.cells import ARROW, ROWS_A_BATCH, Row, batches, kind_of
from inbatch.data.formats.columns import TEXT, Roles, read_as
from inbatch.data.formats.decoding import Coding, find_coding, lines
from inbatch.data.formats.delimited import NA, Layout
from inbatch.data.formats.dialect import find_layout
from inbatch.data.formats.doubt import Doubt
from inbatch.data.formats.json_rows import check_whole, is_stream, line_rows, stream_rows, without_line
from inbatch.data.formats.nested import cell, kinds_of
from inbatch.data.formats.opening import open_bytes, suffix_of
from inbatch.errors import UsageError

# Of the formats; behind each may stand one of `inbatch.data.formats.opening.COMPRESSIONS`.
SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet")
DELIMITED = (".csv", ".tsv")
_JSON = (".jsonl", ".json")
_ROWS_PEEKED = 100


@dataclass(frozen=True)
class Json:
    """How a file of JSON is read.

    Attributes:
        coding: how its bytes are.
        stream: whether value by value, and not line by line.

    Example:
        >>> _ = Path("faq.json").write_text('[{"question": "Do you ship?"}]')
        >>> _ = Path("faq.jsonl").write_text('{"question": "Do you ship?"}')
        >>> look(Path("faq.json")).stream, look(Path("faq.jsonl")).stream
        (True, False)
    """

    coding: Coding
    stream: bool

    def __str__(self) -> str:
        return str(self.coding)


@dataclass(frozen=True)
class Parquet:
    """A parquet file that was opened once; there is nothing to say about how it is read.

    Example:
        >>> import pyarrow.parquet as pq
        >>> pq.write_table(pa.table({"question": ["Do you ship?"]}), "questions.parquet")
        >>> reading = look(Path("questions.parquet"))
        >>> reading, reading.file.schema_arrow.names
        (Parquet(), ['question'])
    """

    file: Any = field(repr=False)

    def __str__(self) -> str:
        return ""


# How the bytes of a file become rows: of a csv or tsv file, of JSON, of lines, of a parquet file.
Reading = Layout | Json | Coding | Parquet


def look(path: Path, columns: Mapping[str, Any] | None = None, **given: Any) -> Reading:
    r"""Decide how a file is read, from its first bytes and rows.

    Args:
        path: a file with one of `SUFFIXES`.
        columns: which column plays which role, as set.
        given: ``encoding`` of a text file; ``delimiter``, ``quotes`` and ``header`` of a csv or tsv file; None is not given.

    Raises:
        UsageError: if a setting is not one of this kind of file, or what `inbatch.data.formats.dialect.find_layout` refuses.

    Example:
        >>> _ = Path("faq.tsv").write_text("question\tanswer\nDo you ship?\tYes.\n")
        >>> print(look(Path("faq.tsv")))
        UTF-8; tab between cells; quotes are text; names in the first line
        >>> look(Path("menu.txt"), delimiter="tab")
        Traceback (most recent call last):
        inbatch.errors.UsageError: menu.txt: delimiter is a setting of csv and tsv files. Remove it from this source.
    """
    suffix = suffix_of(path)
    allowed = {".parquet": ()}.get(suffix, ("encoding", "delimiter", "quotes", "header"))
    allowed = allowed if suffix in DELIMITED else allowed[:1]
    for name, value in given.items():
        if value is not None and name not in allowed:
            kind = "text" if name == "encoding" else "csv and tsv"
            raise UsageError(f"{path}: {name} is a setting of {kind} files. Remove it from this source.")
    if suffix == ".parquet":
        return Parquet(open_parquet(path))
    if suffix in DELIMITED:
        return find_layout(path, columns, suffix=suffix, **given)
    with open_bytes(path) as file:
        coding = find_coding(file, path, given.get("encoding"))
        return Json(coding, is_stream(path, file, coding)) if suffix in _JSON else coding


def peek(path: Path, reading: Reading) -> tuple[dict[str, str], dict[str, list[Any]]]:
    r"""Find what each column of a file holds, from its first rows or its schema.

    Args:
        path: a file with one of `SUFFIXES`.
        reading: what `look` said.

    Returns:
        One of the kinds that `inbatch.data.formats.columns` names a column, in the order of the file; behind a nested column, and by dotted names,
        what its fields hold. And the cells of the first rows, by column; none of a txt file, whose lines are texts whatever they look like.

    Raises:
        UsageError: if the file is empty, is not in its encoding, or is not what its suffix says.

    Example:
        >>> path = Path("votes.jsonl")
        >>> _ = path.write_text('{"question": "Do you ship?", "votes": 3}\n')
        >>> peek(path, look(path))
        ({'question': 'text', 'votes': 'number'}, {'question': ['Do you ship?'], 'votes': ['3']})
    """
    if isinstance(reading, Parquet):
        batch = next(reading.file.iter_batches(_ROWS_PEEKED), None)
        cells = {} if batch is None else cells_of(pa.Table.from_batches([batch]))
        return schema_kinds(reading.file.schema_arrow), cells
    rows = [row for _, row in islice(_rows(path, reading), _ROWS_PEEKED)]
    if not rows:
        raise UsageError(f"{path}: expected at least one row; the file has none.")
    if isinstance(reading, Coding):
        return {"text": TEXT}, {}
    if isinstance(reading, Json):
        check_whole(path, rows, reading.coding)
    names = dict.fromkeys(name for row in rows for name in row)
    return kinds_of(rows, kind_of), {name: [row.get(name) for row in rows] for name in names}


def read(
    path: Path, kinds: Mapping[str, str], roles: Roles, reading: Reading, na_as_empty: bool = False
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    r"""Read the columns that have a role.

    Args:
        path: a file with one of `SUFFIXES`.
        kinds: what `peek` found.
        roles: says which columns are read, and which is read as numbers.
        reading: what `look` said.
        na_as_empty: read NA, null, nan and what else pandas takes for a missing text in a csv or tsv file as an empty one.

    Returns:
        The schema, and the rows in batches. A missing text (null) is kept as null.

    Raises:
        UsageError: while the batches are read: at the first row with another number of columns, or a cell of another kind.
        MixedColumn: while the batches are read: at the first list where the rows that `peek` saw have single texts.

    Example:
        >>> path, roles = Path("scored.csv"), Roles("question", "answer", score="score")
        >>> _ = path.write_text("question,answer,score\nDo you ship?,Yes.,3\n")
        >>> reading = look(path)
        >>> schema, found = read(path, peek(path, reading)[0], roles, reading)
        >>> [batch.to_pylist() for batch in found]
        [[{'question': 'Do you ship?', 'answer': 'Yes.', 'score': 3.0}]]
    """
    wanted = wanted_kinds(kinds, roles)
    schema = pa.schema({name: ARROW[kind] for name, kind in wanted.items()})
    if isinstance(reading, Parquet):
        whole = reading.file.schema_arrow
        found = reading.file.iter_batches(ROWS_A_BATCH, columns=tops(wanted, whole.names))
        return schema, convert(path, (pa.Table.from_batches([batch]) for batch in found), whole, wanted, schema)
    rows = _rows(path, reading)
    if na_as_empty:
        rows = ((number, {name: "" if cell in NA else cell for name, cell in row.items()}) for number, row in rows)
    if isinstance(reading, Json) and roles.how != "as set":
        rows = _same_keys(path, rows, kinds, roles)

    def remedy(number: int) -> str:
        if isinstance(reading, Json) and not reading.stream:
            line = without_line(path, number, reading.coding)
            return f"Mend the row, set columns to other ones, or read the file without it: {line}"
        return "Mend the row, or set columns to other ones."

    return schema, batches(path, rows, wanted, schema, "line", remedy)


def wanted_kinds(kinds: Mapping[str, str], roles: Roles) -> dict[str, str]:
    """Say as what each column with a role is read: the score as numbers, numbers in another role as texts.

    Example:
        >>> wanted_kinds({"drink": "text", "size": "number", "votes": "number as text"}, Roles("drink", "size", score="votes"))
        {'drink': 'text', 'size': 'text', 'votes': 'number'}
    """
    return {name: read_as(kinds[name], name in roles.scores) for name in roles.used}


def _same_keys(path: Path, rows: Iterable[Row], kinds: Mapping[str, str], roles: Roles) -> Iterator[Row]:
    """Go through rows whose roles were found from the first ones, and refuse keys that these did not have."""
    for number, row in rows:
        new = [name for name in row if name not in kinds]
        gone = [name for name in roles.used if name not in row and cell(row, name) is None]
        missing = gone if roles.how == "by order" else []
        if new or missing:
            raise Doubt(
                str(path),
                f"line {number}: expected the keys of the first rows, since roles were found {roles.how}; missing: "
                f"{', '.join(missing) or 'none'}; new: {', '.join(new) or 'none'}",
                [("if a missing text is an empty one and other keys are left out", {"columns": roles.setting})],
            )
        yield number, row


def _rows(path: Path, reading: Layout | Json | Coding) -> Iterator[Row]:
    if isinstance(reading, Layout):
        return delimited.rows(path, reading)
    if isinstance(reading, Coding):
        return ((number, {"text": line.rstrip("\r\n")}) for number, line in lines(path, reading))
    if reading.stream:
        return stream_rows(path, reading.coding)
    return line_rows(path, lines(path, reading.coding), reading.coding)
