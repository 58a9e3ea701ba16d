"""A valid small file, written in some other way, ends in the same pairs, or in a refusal whose line, typed, gives them."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typed_lines import sources_in

from inbatch.data.sources.sources import Source, load
from inbatch.errors import UsageError

WORDS = [
    "a cat",
    "ein Hund.",
    "\u4f60\u597d",
    "x\u2028y",
    'quoted "text"',
    "caf\u00e9 \U0001f600",
    "[1]",
    "{}",
    "NaN text",
    "a, b; c",
]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
unused = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.lists(st.integers(), max_size=2), st.lists(texts, max_size=2),
    st.dictionaries(st.sampled_from(["k", "url", "text"]), st.integers() | texts, max_size=2),
    st.lists(st.fixed_dictionaries({"k": texts}), max_size=2),
)  # fmt: skip
TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
UNUSED_TYPES = {
    "decimal": pa.array([1, None], pa.decimal128(9, 2)),
    "null": pa.nulls(2),
    "date": pa.array([1, None], pa.date32()),
    "structs": pa.array([[{"k": 1, "text": "t"}], None]),
    "struct": pa.array([{"url": "u"}, None]),
    "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    "map": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
    "number": pa.array([0.5, None]),
    "list": pa.array([["x"], None]),
    "text": pa.array(["x y", None]),
}


PACKS: dict[str, Any] = {"": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """Draw the names of anchor and positive, joined by a blank, and rows of them."""
    names = draw(st.sampled_from(["anchor positive", "query answer", "satz phrase"]))
    rows = draw(st.lists(st.tuples(texts, texts), min_size=2, max_size=6))
    return names, [dict(zip(names.split(), row)) for row in rows]


@st.composite
def json_files(draw: st.DrawFn) -> tuple[str, bytes, list[tuple[str, str]]]:
    names, rows = draw(tables())
    meant = [tuple(row[name] for name in names.split()) for row in rows]
    extra = draw(st.lists(st.sampled_from(["meta", "id", "extra key", "a.b"]), max_size=2, unique=True))
    order = random.Random(draw(st.integers(0, 9)))
    for row in rows:
        for name in extra:
            if draw(st.booleans()):
                row[name] = draw(unused)
    # Where the order decides, the first row's is that of the file.
    rows = [rows[0], *(dict(order.sample(list(row.items()), len(row))) for row in rows[1:])]
    if names != "satz phrase":
        rows[0] = dict(order.sample(list(rows[0].items()), len(rows[0])))
    ascii_ = draw(st.booleans())
    form = draw(st.sampled_from(["lines", "array", "indented", "objects"]))
    if form in ("lines", "objects"):
        text = ("\r\n" if draw(st.booleans()) else "\n").join(
            json.dumps(r, ensure_ascii=ascii_, indent=1 if form == "objects" else None) for r in rows
        )
    else:
        text = json.dumps(rows, ensure_ascii=ascii_, indent=2 if form == "indented" else None)
    name = "json" if form == "objects" else draw(st.sampled_from(["json", "jsonl", "ndjson"]))
    ending = draw(st.sampled_from(list(PACKS)))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    path = f"a.{name}{ending}"
    return path.upper() if draw(st.booleans()) else path, PACKS[ending](text.encode(encoding)), meant  # type: ignore[return-value]


@st.composite
def arrow_tables(draw: st.DrawFn) -> tuple[str, Any, list[tuple[str, str]]]:
    names, rows = draw(tables())
    meant = [tuple(row[name] for name in names.split()) for row in rows]
    columns = {name: pa.array([row[name] for row in rows], draw(st.sampled_from(TEXT_TYPES))) for name in names.split()}
    for kind in draw(st.lists(st.sampled_from(list(UNUSED_TYPES)), max_size=2, unique=True)):
        cells = draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows)))
        columns[f"unused {kind}"] = UNUSED_TYPES[kind].take(pa.array(cells))
    if names != "satz phrase":
        columns = dict(draw(st.permutations(list(columns.items()))))
    return (
        draw(st.sampled_from(["a.parquet", "A.PARQUET", "a.parquet.gz", "saved", "splits"])),
        pa.table(columns),
        meant,
    )  # type: ignore[return-value]


def pairs(source: Source) -> list[tuple[str, str]]:
    table = load(source)
    assert table.roles.positive is not None
    if table.roles.how == "by order" and table.roles.negatives:
        # A further column of texts, or of lists of them, in each row holds hard negatives where no name is known.
        further = ("unused text", "unused list", "meta", "id", "extra key", "a.b")
        assert all(name.startswith(further) for name in table.roles.negatives)
    return list(zip(table.rows[table.roles.anchor][:], table.rows[table.roles.positive][:]))


def outcome(source: Source) -> tuple[list[tuple[str, str]] | None, str]:
    """Read pairs, or say why not."""
    try:
        return pairs(source), ""
    except UsageError as error:
        return None, str(error)


def check(path: str, meant: list[tuple[str, str]]) -> None:
    """Read the pairs that are meant, or be refused with a line that reads them when it is typed."""
    found, why = outcome(Source(path))
    if found is None:
        outcomes = [outcome(line) for line in sources_in(why)]
        # What a line leaves open is said by further ones.
        outcomes += [outcome(line) for _, further in outcomes for line in sources_in(further)]
        assert meant in [read for read, _ in outcomes], why
    else:
        assert found == meant


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(json_files())
def test_json(tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes, list[tuple[str, str]]]):
    path, content, meant = file
    folder = tmp_path_factory.mktemp("json")
    (folder / path).write_bytes(content)
    check(str(folder / path), meant)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(arrow_tables())
def test_arrow(tmp_path_factory: pytest.TempPathFactory, file: tuple[str, Any, list[tuple[str, str]]]):
    name, table, meant = file
    path = Path(tmp_path_factory.mktemp("arrow")) / name
    if name in ("saved", "splits"):
        try:
            rows = datasets.Dataset(table)
        except (ValueError, TypeError, NotImplementedError, KeyError):  # types that the library itself does not take
            return
        rows.save_to_disk(str(path)) if name == "saved" else datasets.DatasetDict(train=rows).save_to_disk(str(path))
    else:
        pq.write_table(table, path)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    check(str(path), meant)
