import argparse
import gzip
import io
import json
import shlex

import pytest
from datasets import Dataset

from inbatch.data.sources.sources import Source
from inbatch.errors import UsageError
from inbatch.experiments.evaluation import corpus


def environment(monkeypatch):
    """Stand in for the installed packages: two pairs a split."""

    def environment_pairs(split):
        rows = [
            {
                "anchor": f"{split} query {i}",
                "positive": f"def {split}_{i}(): return {i}",
                "near_duplicate": bool(i),
                "module": "pkg.mod",
                "name": f"{split}_{i}",
                "file": "/pkg/mod.py",
                "line": 7 + i,
                "split": split,
            }
            for i in range(2)
        ]
        return Dataset.from_list(rows)

    monkeypatch.setattr("inbatch.data.sources.environment.environment_pairs", environment_pairs)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_with_several_documents_and_hard_negatives(tmp_path):
    rows = [{"query": "a", "pos": ["b", "c"], "neg": ["x"]}, {"query": "d", "pos": ["e"], "neg": ["y", "z"]}]
    judged = corpus.read_judged(write(tmp_path / "pairs.jsonl", rows))
    assert judged.name == "pairs"
    assert judged.queries == ["a", "d"]
    assert judged.documents == [["b", "c"], ["e"]]
    assert judged.others == ["x", "y", "z"]
    assert judged.near_duplicate is None
    assert corpus.read_judged(str(tmp_path / "pairs.jsonl"), limit=1).queries == ["a"]


@pytest.mark.parametrize("scores", [[0, 1], [0.5, 4.5], [3, -1]])
def test_scores_are_kept_as_they_are(tmp_path, scores):
    rows = [{"query": "a", "document": "b", "score": s} for s in scores]
    assert corpus.read_judged(write(tmp_path / "pairs.jsonl", rows)).scores == [float(s) for s in scores]


def test_without_a_column_of_scores_there_are_none(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [{"query": "a", "document": "b", "score": 0}])
    assert corpus.read_judged(Source(path, view="pair")).scores is None
    assert corpus.read_judged(Source(path, columns={"anchor": "query", "positive": "document"})).scores is None


def test_a_single_column_is_no_pair(tmp_path):
    path = write(tmp_path / "texts.jsonl", [{"text": "a"}, {"text": "b"}])
    with pytest.raises(UsageError, match="one of documents"):
        corpus.read_judged(path)


def test_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 1 row; got 0"):
        corpus.read_judged(write(tmp_path / "pairs.jsonl", [{"query": "a", "answer": "b"}]), limit=0)


def test_environment_is_judged_on_validation_unless_told(monkeypatch):
    environment(monkeypatch)
    assert corpus.read_judged("environment").queries == ["validation query 0", "validation query 1"]
    judged = corpus.read_judged("environment", "test", limit=1)
    assert judged.documents == [["def test_0(): return 0"]]
    assert judged.near_duplicate == [False]
    assert corpus.read_judged(Source("environment", split="train")).queries[0] == "train query 0"


def test_a_corpus_of_environment_is_all_of_it_and_says_where_code_lies(monkeypatch):
    environment(monkeypatch)
    found = corpus.read_corpus("environment")
    assert len(found.texts) == 6
    assert found.places[0] == "pkg.mod.train_0  /pkg/mod.py:7"
    assert corpus.read_corpus("environment", "test").texts == ["def test_0(): return 0", "def test_1(): return 1"]


def test_a_corpus_holds_each_document_once_with_the_row_it_stands_in(tmp_path):
    rows = [
        {"query": "a", "answer": "one"},
        {"query": "b", "answer": " "},
        {"query": "c", "answer": "two"},
        {"query": "d", "answer": "one"},
    ]
    found = corpus.read_corpus(write(tmp_path / "pairs.jsonl", rows))
    assert found.texts == ["one", "two"]
    assert found.places == ["row 0", "row 2"]


def test_a_corpus_of_lines_and_of_a_chosen_column(tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    assert corpus.read_corpus(str(tmp_path / "lines.txt")).texts == ["one", "two"]
    path = write(tmp_path / "table.jsonl", [{"id": "1", "body": "b", "title": "t"}])
    assert corpus.read_corpus(Source(path, columns={"anchor": "title"})).texts == ["t"]


def test_a_corpus_of_blanks_is_refused(tmp_path):
    with pytest.raises(UsageError, match="all are blank"):
        corpus.read_corpus(write(tmp_path / "texts.jsonl", [{"text": " "}]))


def test_texts_are_the_lines_of_a_file_or_a_column_of_a_table_blank_ones_too(tmp_path):
    (tmp_path / "lines.text").write_text("a\n\nb,c\n")
    assert corpus.read_texts(str(tmp_path / "lines.text")) == ["a", "", "b,c"]
    rows = [{"id": f"row-{i:04}", "year": i, "body": text} for i, text in enumerate(["b", "", None, " ", "b"] * 2)]
    path = write(tmp_path / "table.jsonl", rows)
    assert corpus.read_texts(path) == ["b", "", "", " ", "b"] * 2
    assert corpus.read_texts(path, "id")[0] == "row-0000"
    assert corpus.read_texts(path, "year") == [str(i) for i in range(10)]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "table.parquet"))
    assert corpus.read_texts(str(tmp_path / "table.parquet"), "body") == ["b", "", "", " ", "b"] * 2
    (tmp_path / "pairs.csv").write_text("one text,another text\na third,a fourth\n")
    assert corpus.read_texts(str(tmp_path / "pairs.csv"), "1") == ["another text", "a fourth"]


def test_a_table_with_several_columns_of_texts_is_refused_with_the_option_that_works(tmp_path):
    path = write(tmp_path / "pairs.json", [{"a question": "a", "answer": "b", "meta": {"url": [1]}}])
    with pytest.raises(UsageError, match="it holds a question, answer, meta, meta.url") as error:
        corpus.read_texts(path)
    option, name = shlex.split(str(error.value).partition("Say which it is: ")[2])
    assert (option, corpus.read_texts(path, name)) == ("--column", ["a"])
    with pytest.raises(UsageError, match="with --column NAME, or give a file of lines"):
        corpus.read_texts(write(tmp_path / "none.jsonl", [{"a": [1, 2]}]))
    (tmp_path / "lines.txt").write_text("a\n")
    for source in (str(tmp_path / "lines.txt"), "-"):
        with pytest.raises(UsageError, match="is read line by line. Leave --column out"):
            corpus.read_texts(source, "a")


def test_texts_are_read_as_braces_say(tmp_path):
    (tmp_path / "a.csv").write_bytes("hund;gro\u00df\nkatze;\n".encode("cp1252"))
    given = f"{{path: {tmp_path / 'a.csv'}, encoding: cp1252, header: false, columns: {{anchor: 1}}}}"
    assert corpus.read_texts(corpus.in_braces(given)) == ["gro\u00df", ""]
    assert corpus.read_texts(corpus.in_braces(given), "0") == ["hund", "katze"]
    (tmp_path / "a.txt").write_bytes("gro\u00df\n\nb\n".encode("cp1252"))
    assert corpus.read_texts(corpus.in_braces(f"{{path: {tmp_path / 'a.txt'}, encoding: cp1252}}")) == [
        "gro\u00df",
        "",
        "b",
    ]
    with pytest.raises(UsageError, match="expected a table for encoding; - is read line by line. Leave encoding out"):
        corpus.read_texts(corpus.in_braces("{path: '-', encoding: cp1252}"))


def test_what_is_doubted_is_answered_with_braces_that_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("satz,a;text,b\nein Hund,c;eine Katze,d\n" + "drei,e;vier,f\n" * 3)
    with pytest.raises(UsageError, match="comma and semicolon may all stand between cells.* and encode take") as error:
        corpus.read_texts(str(tmp_path / "a.csv"))
    lines = [
        corpus.in_braces(word.rstrip(";").partition("=")[2])
        for word in shlex.split(str(error.value))
        if "--data" in word
    ]
    found = [
        corpus.read_texts(line, "0" if line.header is False else None)
        for line in lines
        if line.delimiter == "semicolon" and line.header is False
    ]
    assert found == [["satz,a", "ein Hund,c", *["drei,e"] * 3]]


def test_a_blank_line_is_a_row_of_a_text_file_and_none_of_a_table(tmp_path):
    (tmp_path / "a.txt").write_text("text\na b\n\nc d\n")
    (tmp_path / "a.csv").write_text("text\na b\n\nc d\n")
    assert corpus.read_texts(str(tmp_path / "a.txt")) == ["text", "a b", "", "c d"]
    assert corpus.read_texts(str(tmp_path / "a.csv")) == ["a b", "c d"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet.gz"])
def test_a_file_of_texts_is_opened_no_more_than_for_training(tmp_path, monkeypatch, name):
    rows = Dataset.from_dict({"satz": ["a b", "c d"] * 20, "jahr": [1, 2] * 20})
    {"csv": rows.to_csv, "jsonl": rows.to_json, "json": rows.to_json, "parquet": rows.to_parquet}[name.split(".")[1]](
        str(tmp_path / name.removesuffix(".gz"))
    )
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    opened = []
    real = io.FileIO
    monkeypatch.setattr(io, "FileIO", lambda path, *mode: opened.append(str(path)) or real(path, *mode))
    assert corpus.read_texts(str(tmp_path / name))[:2] == ["a b", "c d"]
    assert opened.count(str(tmp_path / name)) == (1 if "parquet" in name else 3)


def parse(*words, source="f.csv"):
    parser = argparse.ArgumentParser()
    corpus.add_source_arguments(parser, "source", "train")
    return corpus.source_arguments(parser.parse_args([source, *words]))


def test_arguments_become_a_source():
    given = parse("--split", "dev", "--limit", "3", "--columns", "anchor=0", "positive=a=b", "negatives=n1,2")
    columns = {"anchor": 0, "positive": "a=b", "negatives": ["n1", 2]}
    assert given == {"source": Source("f.csv", columns=columns), "split": "dev", "limit": 3}
    assert parse()["source"] == Source("f.csv")


def test_a_source_in_braces_says_how_it_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("hund;dog\nkatze;cat\n")
    given = parse(source=f"{{path: {tmp_path / 'a.csv'}, header: false, columns: {{anchor: 0}}}}")
    assert corpus.read_corpus(given["source"]).texts == ["hund", "katze"]
    assert parse("--columns", "anchor=1", source="{path: a.csv, columns: {anchor: 0}}")["source"].columns == {
        "anchor": 1
    }


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{path:a.csv}", "source: Unable to load config"),
        ("{path: a.csv, delimitr: x}", "there is no option delimitr. Did you mean delimiter"),
        ("{path: [", "source: Unable to load config .* while parsing a flow node"),
        ("{}", "path is missing"),
        ("{path: 3}", "path: Expected a str. Got value: 3"),
        ("{path: a.csv, columns: anchor}", "columns: expected dict.* got anchor"),
        ("{path: a.csv, header: 'maybe'}", "header: expected bool.* got maybe"),
        ("{path: a.csv, quotes: single}", "quotes: expected one of 'double', .* got single"),
    ],
)
def test_braces_that_hold_no_source_are_refused(source, why):
    with pytest.raises(UsageError, match="a source as '{path: FILE, delimiter: semicolon}' .*got {.*: " + why) as error:
        parse(source=source)
    assert "\n" not in str(error.value)


def test_words_in_quotes_are_read_as_inbatch_fit_reads_them():
    assert parse(source="{path: '3', header: 'false', weight: 2}")["source"] == Source("3", header=False, weight=2.0)


@pytest.mark.parametrize("words", [["anchor"], ["=x"], ["anchor="], ["anchor=a", "anchor=b"]])
def test_columns_that_are_no_role_and_name_are_refused(words):
    with pytest.raises(UsageError, match="ROLE=NAME"):
        parse("--columns", *words)
