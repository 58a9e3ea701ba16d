"""Nested columns, classes, lists and the types of other writers, in files and data sets, through `load`."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_files import folder, read, refused, write  # noqa: F401

from inbatch.data.sources.sources import Source, load
from inbatch.errors import UsageError


def nested(kind: str) -> str:
    translation = [{"en": "a cat", "de": "eine Katze"}, {"en": "a dog", "de": "ein Hund"}]
    return stored(kind, {"id": ["0", "1"], "translation": translation})


def stored(kind: str, columns: dict) -> str:
    if kind == "jsonl":
        return write("a.jsonl", [dict(zip(columns, row)) for row in zip(*columns.values())])
    if kind == "parquet":
        pq.write_table(pa.table(columns), "a.parquet")
        return "a.parquet"
    rows = datasets.Dataset.from_dict(columns)
    rows.save_to_disk("saved") if kind == "saved" else datasets.DatasetDict(train=rows).save_to_disk("saved")
    return "saved"


KINDS = ["jsonl", "parquet", "saved", "splits"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_translation_is_a_pair(kind):
    path = nested(kind)
    pair = {"translation.en": ["a cat", "a dog"], "translation.de": ["eine Katze", "ein Hund"]}
    assert read(path) == pair
    assert str(load(Source(path)).roles).startswith("anchor = translation.en; positive = translation.de")
    columns = {"anchor": "translation.de", "positive": "translation.en"}
    assert read(path, columns=columns) == dict(reversed(pair.items()))
    with pytest.raises(
        UsageError, match="no column translation.fr.* the columns are id, translation, translation.en, translation.de"
    ):
        load(Source(path, columns={"anchor": "translation.fr"}))


@pytest.mark.parametrize("kind", KINDS)
def test_nested_texts_beside_others_are_not_guessed_at(kind):
    path = stored(kind, {"title": ["t u", "v w"], "body": ["b c", "d e"], "meta": [{"url": "u x"}, {"url": "w y"}]})
    (line,) = refused(path, "not all of them hold texts")
    assert load(line).rows["title"][:] == ["t u", "v w"]
    assert line.columns is not None
    assert line.columns["anchor"] == "title"
    assert line.columns["positive"] == "body"
    assert read(path, columns={"anchor": "title", "positive": "meta"}) == {
        "title": ["t u", "v w"],
        "meta.url": ["u x", "w y"],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_objects_are_read_by_their_field(kind):
    passages = [[{"text": "p q", "year": 1}, {"text": "r s", "year": 2}], [{"text": "t u", "year": 3}]]
    path = stored(kind, {"query": ["a b", "c d"], "passages": passages})
    expected = {"query": ["a b", "c d"], "passages.text": [["p q", "r s"], ["t u"]]}
    for name in ("passages", "passages.text"):
        assert read(path, columns={"anchor": "query", "positive": name}) == expected
    (line,) = refused(
        path, "expected texts in column passages.year", columns={"anchor": "query", "positive": "passages.year"}
    )
    assert line.columns == {"anchor": "query"}
    assert load(line).rows[:] == {"query": ["a b", "c d"]}


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_lists_are_read_by_their_field(kind):
    answers = [{"text": ["p q"], "start": [1]}, {"text": ["r s", "t u"], "start": [2, 3]}]  # as in SQuAD
    path = stored(kind, {"question": ["a b", "c d"], "answers": answers})
    columns = {"anchor": "question", "positive": "answers.text"}
    assert read(path, columns=columns)["answers.text"] == [["p q"], ["r s", "t u"]]


@pytest.mark.parametrize("kind", KINDS)
def test_two_fields_of_texts_are_not_chosen_between(kind):
    path = stored(kind, {"q": ["a b", "c d"], "d": [{"title": "t v", "body": "b w"}] * 2})
    with pytest.raises(UsageError, match="expected texts in column d;"):
        load(Source(path, columns={"anchor": "q", "positive": "d"}))


# Data sets of the library `datasets`, and types of Arrow.


def classes(kind: str) -> str:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad news", "good news"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a b", "c d", "e f"], "label": [1, 0, 1]}, features)
    if kind == "parquet":
        rows.to_parquet("a.parquet")
        return "a.parquet"
    rows.save_to_disk("saved") if kind == "saved" else datasets.DatasetDict(train=rows).save_to_disk("saved")
    return "saved"


@pytest.mark.parametrize("kind", ["parquet", "saved", "splits"])
def test_classes_are_their_names_as_texts_and_their_numbers_as_scores(kind):
    path = classes(kind)
    columns = {"anchor": "text", "positive": "label"}
    assert read(path, columns=columns) == {
        "text": ["a b", "c d", "e f"],
        "label": ["good news", "bad news", "good news"],
    }
    assert load(Source(path, columns=columns)).how == "label: classes, read as their names"
    columns = {"anchor": "text", "positive": "text", "score": "label"}
    assert read(path, columns=columns)["label"] == [1, 0, 1]
    assert load(Source(path, columns=columns)).how == ""


def test_a_data_set_of_the_hub_is_converted_too(monkeypatch):
    classes("saved")
    found = datasets.load_from_disk("saved")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    assert read("owner/name", columns={"anchor": "text", "positive": "label"})["label"] == [
        "good news",
        "bad news",
        "good news",
    ]


def test_sequences_of_texts_are_lists():
    for feature in (datasets.Sequence(datasets.Value("string")), datasets.Sequence(datasets.Value("large_string"), length=2),
                    datasets.LargeList(datasets.Value("string"))):  # fmt: skip
        features = datasets.Features({"query": datasets.Value("large_string"), "pos": feature})
        datasets.Dataset.from_dict({"query": ["a b"], "pos": [["x", "y"]]}, features).save_to_disk("saved")
        assert read("saved") == {"query": ["a b"], "pos": [["x", "y"]]}


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int16(), pa.string()), pa.binary()], ids=str
)
@pytest.mark.parametrize(
    "outer", [pa.list_, pa.large_list, lambda inner: pa.list_(inner, 2)], ids=["list", "large_list", "fixed"]
)
def test_parquet_files_of_other_writers(kind, outer):
    table = pa.table(
        {
            "query": pa.array(["a b", "c d"], kind),
            "pos": pa.array([["x", "y"], ["z", "w"]], outer(pa.string() if pa.types.is_dictionary(kind) else kind)),
            "score": pa.array([1, 2], pa.decimal128(5, 2)),
            "unused": pa.nulls(2),
            "nested": [[{"k": 1}], []],
        }
    )
    pq.write_table(table, "a.parquet", store_schema=True)
    columns = {"anchor": "query", "positive": "pos", "score": "score"}
    assert read("a.parquet", columns=columns) == {
        "query": ["a b", "c d"],
        "pos": [["x", "y"], ["z", "w"]],
        "score": [1.0, 2.0],
    }
    (line,) = refused("a.parquet", "no role is known for unused, nested")
    assert line.columns == columns
