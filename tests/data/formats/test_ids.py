from __future__ import annotations

import uuid

import pytest

from inbatch.data.formats.ids import find_ids, is_nameless, likeness

NUMBERS = [str(i) for i in range(8)]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("id", ["7"]),
        ("doc_id", ["7", "7"]),
        ("pairID", ["1", "2"]),
        ("", ["0", "1"]),
        ("Unnamed: 0", ["0", "1"]),
        ("__index_level_0__", [5, 3]),
        ("index", [3, 4]),
        ("qid", ["q1", "q1"]),
        ("x", [str(uuid.uuid4())]),
        ("x", ["d41d8cd98f00b204e9800998ecf8427e"]),
        ("x", NUMBERS),
        ("x", list(range(5, 15))),
        ("x", [str(100_000 + 17 * i) for i in range(9)]),
        ("x", [f"MED-{i}" for i in range(8)]),
        ("x", [f"https://a.b/{i}" for i in range(20)]),
        ("", ["", " "]),
        ("Unnamed: 3", [None, None]),
    ],
)
def test_identifiers(name, cells):
    assert likeness(name, cells) == "ids"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("x", ["0", "1"]),
        ("x", [3, 1, 2]),
        ("x", ["87", "34", "12", "99", "5", "61", "7", "44", "23"]),
        ("x", ["q1", "q2"]),
        ("x", ["hund", "katze", "maus", "elefant", "igel", "pferd", "kuh", "schaf", "ziege"]),
        ("", ["c"]),
    ],
)
def test_what_may_be_identifiers(name, cells):
    assert likeness(name, cells) == "maybe ids"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("id", ["Ini adalah teks.", "Kalimat kedua."]),  # Indonesian, beside a column `en`
        ("x", ["A sentence.", "Another one."]),
        ("x", ["你好", "您好"]),
        ("x", ["كلب", "قطة"]),
        ("x", ["0.5", "0.7", "1.2"]),
        ("x", ["1.0", "2.0", "3.0"]),
        ("wert", [f"{i},{i + 10}" for i in range(9)]),  # decimal commas
        ("x", ["1", "1", "0", "1"]),
        ("x", ["news", "news", "wiki"]),
        ("x", [True, False]),
        ("x", [["a"], ["b"]]),
        ("x", []),
        ("x", ["", ""]),
    ],
)
def test_texts_scores_and_labels_are_none(name, cells):
    assert likeness(name, cells) is None


def test_columns_of_identifiers_are_found_among_others():
    assert find_ids({"id": NUMBERS, "a": ["A b."] * 8, "key": ["x", "y"]}) == {"id": "ids", "key": "maybe ids"}


def test_names_that_are_none():
    assert [is_nameless(name) for name in ("", " ", "Unnamed: 0", "unnamed", "a")] == [True, True, True, False, False]
