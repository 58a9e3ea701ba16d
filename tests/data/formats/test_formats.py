"""Files and data sets of each format, through `load`: what is read, and the lines of what is refused."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import PAIRS, folder, read, refused, write, zstd  # noqa: F401

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.sources import Source, load
from inbatch.errors import UsageError

CONTENTS = {
    "jsonl": "".join(json.dumps({"query": q, "answer": a}) + "\n" for q, a in zip(*PAIRS.values())).encode(),
    "ndjson": "".join(json.dumps({"query": q, "answer": a}) + "\n" for q, a in zip(*PAIRS.values())).encode(),
    "json": json.dumps([{"query": q, "answer": a} for q, a in zip(*PAIRS.values())], indent=1).encode(),
    "csv": ("query,answer\n" + "".join(f"{q},{a}\n" for q, a in zip(*PAIRS.values()))).encode(),
    "tsv": ("query\tanswer\n" + "".join(f"{q}\t{a}\n" for q, a in zip(*PAIRS.values()))).encode("utf-16"),
    "txt": (b"query\nanswer\n"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd, bz2.compress])
@pytest.mark.parametrize("upper", [False, True])
def test_every_format_is_read_compressed_and_in_capitals(name, pack, upper):
    ending = {bytes: "", gzip.compress: ".gz", zstd: ".zst", bz2.compress: ".bz2"}[pack]
    path = f"a.{name}{ending}"
    path = path.upper() if upper else path
    Path(path).write_bytes(pack(CONTENTS[name]))
    assert read(path) == ({"text": ["query", "answer"]} if name == "txt" else PAIRS)


def test_a_parquet_file_is_read_compressed_and_in_capitals():
    pq.write_table(pa.table(PAIRS), "A.PARQUET")
    Path("a.Parquet.GZ").write_bytes(gzip.compress(Path("A.PARQUET").read_bytes()))
    assert read("A.PARQUET") == read("a.Parquet.GZ") == PAIRS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.json.zst", "a.txt.bz2", "a.parquet.gz"])
@pytest.mark.parametrize("rows", [2, 20_000])
def test_a_cut_off_file_is_refused_and_leaves_nothing(name, rows, cache):
    kind = name.split(".")[1]
    if kind == "parquet":
        pq.write_table(pa.table(PAIRS), "whole")
        content = Path("whole").read_bytes()
    else:
        content = CONTENTS[kind] if kind == "json" else CONTENTS[kind] * (rows // 2)
    pack = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress}[name.split(".")[2]]
    Path(name).write_bytes(pack(content)[:-5])
    assert refused(name, "expected a whole file compressed with") == []
    assert list(cache.iterdir()) == []


# JSON: keys that are not used, or not everywhere.


def test_keys_that_are_not_used_may_be_missing_and_of_any_type():
    rows = [
        {"query": "a", "answer": "x", "meta": 1},
        {"meta": {"k": [1]}, "answer": "y", "query": "b"},
        {"query": "c", "answer": "z", "more": None, "meta": "text"},
        *[{"query": "d", "answer": "w"}] * 120,
        {"query": "e", "answer": "v", "late": [[1]]},
    ]
    path = write("a.jsonl", rows)
    columns = {"anchor": "query", "positive": "answer"}
    found = read(path, columns=columns)
    assert found == {"query": [*"abc", *"d" * 120, "e"], "answer": [*"xyz", *"w" * 120, "v"]}
    (line,) = refused(path, "no role is known for meta, more")
    assert line == Source(path, columns=columns)
    assert load(line).rows[:] == found


def test_a_key_that_comes_later_is_doubted_where_names_or_order_decided():
    rows = [{"query": "a", "answer": "x"}] * 150
    for late in ({"negative": "n"}, {"other": 1}, {"late": {}}):
        path = write("a.jsonl", [*rows, {"query": "b", "answer": "y", **late}])
        (line,) = refused(path, f"line 151: .*found by name; missing: none; new: {next(iter(late))}")
        assert load(line).rows["query"][149:] == ["a", "b"]
    path = write("a.jsonl", [*[{"q": "a b", "d": "x y"}] * 150, {"q": "b"}])
    (line,) = refused(path, "line 151: .*found by order; missing: d; new: none")
    assert (len(load(line)), load(line).dropped) == (150, 1)


@pytest.mark.parametrize("more", ["text", 0.5, ["x"]])
def test_a_further_key_that_some_rows_lack_plays_no_role_by_order(more):
    for rows in ([{}, {"more": more}], [{"more": more}, {}], [{"more": None}, {"more": more}]):
        path = write("a.jsonl", [{"q": "a b", "d": "x y", **row} for row in rows])
        (line,) = refused(path, "no name is known, and not all of them hold texts")
        assert load(line).rows[:] == {"q": ["a b"] * 2, "d": ["x y"] * 2}
    pq.write_table(pa.table({"q": ["a b"] * 2, "d": ["x y"] * 2, "more": ["text", None]}), "a.parquet")
    (line,) = refused("a.parquet", "not all of them hold texts")
    assert load(line).rows.column_names == ["q", "d"]


def test_a_missing_used_key_is_an_empty_text():
    path = write(
        "a.jsonl", [{"query": "a", "answer": "x"}, {"query": "b"}, {"answer": "y"}, {"query": "c", "answer": None}]
    )
    assert (read(path), load(Source(path)).dropped) == ({"query": ["a"], "answer": ["x"]}, 3)
    assert read(path, empty="keep")["answer"] == ["x", None, "y", None]


# Mixed and other types of used keys.


def test_numbers_and_truth_values_are_the_texts_that_the_file_shows():
    Path("a.jsonl").write_text(
        '{"query": "2+2", "answer": 4}\n{"query": "pi", "answer": 3.140}\n{"query": 1e3, "answer": true}\n'
    )
    assert read("a.jsonl") == {"query": ["2+2", "pi", "1e3"], "answer": ["4", "3.140", "true"]}
    Path("b.jsonl").write_text('{"query": "2+2", "answer": 4}\n{"query": "3+1", "answer": 4}\n')
    assert read("b.jsonl")["answer"] == ["4", "4"]
    assert load(Source("b.jsonl")).how == "UTF-8; answer: numbers, read as texts"
    Path("c.jsonl").write_text(
        '{"query": "2+2", "answer": "4"}\n' * 100 + '{"query": "x", "answer": 5}\n{"query": "y", "answer": NaN}\n'
    )
    assert read("c.jsonl")["answer"][98:] == ["4", "4", "5"]


def test_scores_may_be_numbers_in_quotes():
    for scores in (["0.5", 1], [1, "0.5"], ["1", "0.5"]):
        rows = [{"sentence1": f"a {s}", "sentence2": "b c", "score": s} for s in scores]
        assert read(write("a.jsonl", rows))["score"] == [float(s) for s in scores]


@pytest.mark.parametrize("single", [0, 50, 150])
def test_single_texts_among_lists_are_lists_of_one_wherever_they_stand(single):
    rows = [{"query": f"q {i}", "pos": ["p", "r"]} for i in range(200)]
    rows[single]["pos"] = "s"
    assert read(write("a.jsonl", rows))["pos"][single] == ["s"]
    rows = [{"query": f"q {i}", "pos": "s"} for i in range(200)]
    rows[single]["pos"] = ["p", "r"]
    path = write("b.jsonl", rows)
    for _ in range(2):  # from the file, and from the cache
        found = read(path)["pos"]
        assert (found[single], found[199]) == (["p", "r"], ["s"])


@pytest.mark.parametrize("cell", [{"k": 1}, ["a", ["b"]], [{"k": "v"}]])
def test_a_used_cell_that_is_no_text_is_refused_with_its_place(cell):
    rows = [{"query": "a", "answer": "x"}] * 3
    path = write("a.jsonl", [*rows, {"query": "b", "answer": cell}])
    with pytest.raises(
        UsageError, match="line 4, column answer: expected a .*text.* sed 4d < a.jsonl > mended-a.jsonl"
    ):
        load(Source(path))


def test_a_column_of_nulls_is_in_nobodys_way():
    path = write("a.jsonl", [{"q": "a b", "d": "x y", "n": None}] * 2)
    (line,) = refused(path, "not all of them hold texts")
    assert load(line).rows[:] == {"q": ["a b"] * 2, "d": ["x y"] * 2}
    pq.write_table(pa.table({"q": ["a b"], "d": ["x y"], "n": pa.nulls(1)}), "a.parquet")
    (line,) = refused("a.parquet", "not all of them hold texts")
    assert load(line).rows[:] == {"q": ["a b"], "d": ["x y"]}
    with pytest.raises(UsageError, match="expected texts in column n"):
        load(Source("a.parquet", columns={"anchor": "q", "positive": "n"}))


def test_rows_that_are_lists_have_numbered_columns():
    Path("a.jsonl").write_text('["a b", "x y"]\n["c d", "z w"]\n')
    assert read("a.jsonl") == {"0": ["a b", "c d"], "1": ["x y", "z w"]}
    assert read("a.jsonl", columns={"anchor": 1, "positive": 0}) == {"1": ["x y", "z w"], "0": ["a b", "c d"]}
    Path("a.json").write_text('["a b", "c d"]')
    assert read("a.json") == {"text": ["a b", "c d"]}


def test_an_array_is_read_whatever_the_file_is_called():
    Path("a.jsonl").write_bytes(CONTENTS["json"])
    assert read("a.jsonl") == PAIRS
    Path("a.json").write_bytes(CONTENTS["jsonl"])
    assert read("a.json") == PAIRS


# Nested columns.


def test_half_a_surrogate_pair_is_one_thing_everywhere():
    Path("a.jsonl").write_text('{"query": "a \\ud800", "answer": "\\ud83d\\ude00 \\udc00"}\n')
    expected = {"query": ["a \ufffd"], "answer": ["\U0001f600 \ufffd"]}
    assert read("a.jsonl") == expected
    broken = [pa.Array.from_buffers(pa.string(), 1, pa.array([text.encode("utf-8", "surrogatepass")]).buffers())
              for text in ("a \ud800", "\ud83d\ude00 \udc00")]  # fmt: skip
    table = pa.table(broken, list(PAIRS))
    pq.write_table(table, "a.parquet")
    assert read("a.parquet") == expected
    datasets.Dataset(table).save_to_disk("saved")
    assert read("saved") == expected


def test_what_was_decided_is_on_the_first_screen():
    Path("a.jsonl.gz").write_bytes(gzip.compress(b'{"query": "2+2", "answer": 4}\n{"query": "3+1", "answer": 4}\n'))
    data = EmbeddingDataModule("a.jsonl.gz", batch_size=2)
    assert data.describe()[:5] == [
        "a.jsonl.gz: 2 rows",
        "  UTF-8; decompressed: gzip; answer: numbers, read as texts",
        "  anchor = query; positive = answer (by name)",
        "  1. query: 2+2",
        "  1. answer: 4",
    ]
