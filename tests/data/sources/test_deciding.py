"""How a file is read, and the roles of its columns: decided once, from what was opened once."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import folder, read, refused, write  # noqa: F401

from inbatch.data.sources import Source, load
from inbatch.data.sources.deciding import decide, look_at
from inbatch.errors import UsageError

ROWS = [{"query": f"a {i}", "answer": f"b {i}"} for i in range(200)]
CONTENTS = {
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "json": json.dumps(ROWS),
    "csv": "query,answer\n" + "".join(f"{row['query']},{row['answer']}\n" for row in ROWS),
    "tsv": "query\tanswer\n" + "".join(f"{row['query']}\t{row['answer']}\n" for row in ROWS),
    "txt": "".join(f"{row['query']}\n" for row in ROWS),
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are opened, once for each time."""
    found: list[str] = []
    real_file, real_parquet = io.FileIO, pq.ParquetFile

    def file(path, *mode):
        found.append(str(path))
        return real_file(path, *mode)

    def parquet(source, **options):
        found.append("parquet")
        return real_parquet(source, **options)

    monkeypatch.setattr(io, "FileIO", file)
    monkeypatch.setattr(pq, "ParquetFile", parquet)
    return found


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_text_file_is_opened_to_decide_to_look_at_rows_and_to_read(opened, name, ending):
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[ending]
    Path(f"a.{name}{ending}").write_bytes(pack(CONTENTS[name].encode()))
    assert len(load(Source(f"a.{name}{ending}"))) == 200
    assert [path for path in opened if path.startswith("a.")] == [f"a.{name}{ending}"] * 3


def test_a_parquet_file_is_opened_and_decompressed_once(opened):
    pq.write_table(pa.Table.from_pylist(ROWS), "a.parquet")
    Path("b.parquet.gz").write_bytes(gzip.compress(Path("a.parquet").read_bytes()))
    assert load(Source("a.parquet")).rows[:] == load(Source("b.parquet.gz")).rows[:]
    assert opened.count("parquet") == 2
    assert opened.count("b.parquet.gz") == 1


def test_a_table_of_other_settings_in_the_cache_hides_no_refusal():
    Path("a.csv").write_text("query,answer\n" + "a b,c d\n" * 150 + '"e "" f",g h\n')
    assert read("a.csv", quotes="double")["query"][-1] == 'e " f'
    Path("a.tsv").write_text("query\tanswer\n" + "a b\tc d\n" * 150 + '"e "" f"\tg h\n')
    assert read("a.tsv", quotes="text")["query"][-1] == '"e "" f"'
    for line in refused("a.tsv", "line 152: a cell in quotes, where no row before has one"):
        assert read("a.tsv", quotes=line.quotes)["query"][-1] == ('e " f' if line.quotes == "double" else '"e "" f"')


@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("more", ["ein Satz", "0.5"])
def test_a_further_column_with_blank_cells_plays_no_role_by_order(blank, more):
    Path("a.csv").write_text("satz,frage,rest\n" + f"a b,c d,{more}\ne f,g h,{blank}\n" * 20)
    (line,) = refused("a.csv", "no name is known, and not all of them hold texts", header=True)
    assert load(line).rows.column_names == ["satz", "frage"]
    Path("b.csv").write_text("satz,frage,rest\n" + f"a b,c d,{more}\n" * 40)
    assert load(Source("b.csv", header=True)).rows.column_names == ["satz", "frage", "rest"]


@pytest.mark.parametrize("other", [{}, {"k": 1}, [{"k": "v"}], [["x"]]])
def test_a_further_key_with_other_things_in_it_plays_no_role_by_order(other):
    path = write("a.jsonl", [{"q": "a b", "d": "x y", "meta": meta} for meta in ("text", other)])
    (line,) = refused(path, "not all of them hold texts")
    assert load(line).rows[:] == {"q": ["a b"] * 2, "d": ["x y"] * 2}


def test_columns_may_be_chosen_by_what_they_hold():
    path = write("a.jsonl", [{"key": i, "one": f"a {i}", "two": f"b {i}"} for i in range(10)])
    seen = []

    def choose(kinds, ids):
        seen.append((dict(kinds), dict(ids)))
        return {"anchor": "two"}

    assert load(Source(path), choose).rows.column_names == ["two"]
    assert seen == [({"key": "number", "one": "text", "two": "text"}, {"key": "ids"})]
    assert load(Source(path, columns={"anchor": "one"}), choose).rows.column_names == ["one"]


def test_what_is_decided_is_what_is_looked_at_and_the_roles():
    path = Path("a.csv")
    path.write_text(CONTENTS["csv"])
    *looked, roles = decide(path, Source("a.csv"))
    assert tuple(looked) == look_at(path, Source("a.csv"))
    assert (roles.anchor, roles.positive) == ("query", "answer")
    with pytest.raises(UsageError, match="got both"):
        look_at(path, Source("a.csv", columns={"anchor": 0, "positive": "answer"}))
