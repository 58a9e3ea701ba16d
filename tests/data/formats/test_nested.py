import pytest

from inbatch.data.formats.cells import kind_of
from inbatch.data.formats.columns import NUMBER, OTHER, TEXT, TEXTS
from inbatch.data.formats.nested import cell, fields_of, kinds_of, offered, spelled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "x"),
        ("b.c", "y"),
        ("b.c.d", "dotted inside"),
        ("b.e.f", ["1", None]),
        ("g.h", "dotted"),
        ("g.h.i", "deeper"),
        ("none", None),
        ("b.none", None),
        ("a.none", None),
        ("b.e.f.none", [None, None]),
    ],
)
def test_a_cell_is_found_by_its_dotted_name(name, expected):
    row = {
        "a": "x",
        "b": {"c": "y", "c.d": "dotted inside", "e": [{"f": "1"}, {}]},
        "g.h": "dotted",
        "g": {"h.i": "deeper"},
    }
    assert cell(row, name) == expected


def test_kinds_of_columns_and_of_their_fields():
    rows = [
        {"id": "q", "translation": {"en": "a", "de": "b"}},
        {"passages": [{"text": "p", "year": 1}], "translation": {"fr": "c"}, "translation.en": "its own"},
        {"deep": {"er": {"est": "d"}}, "list": [{"a": ["b"]}]},
    ]
    assert kinds_of(rows, lambda values: kind_of([1 if v == 1 else v for v in values])) == {
        "id": TEXT,
        "translation": OTHER,
        "translation.de": TEXT,
        "translation.fr": TEXT,
        "passages": OTHER,
        "passages.text": TEXTS,
        "passages.year": OTHER,
        "translation.en": TEXT,
        "deep": OTHER,
        "deep.er": OTHER,
        "deep.er.est": TEXT,
        "list": OTHER,
        "list.a": OTHER,
    }


def test_a_mapping_with_very_many_keys_has_no_fields():
    assert kinds_of([{"a": {str(i): "x" for i in range(101)}}], kind_of) == {"a": OTHER}


FIELDS = {"translation": OTHER, "translation.en": TEXT, "translation.de": TEXT}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (FIELDS, ["translation.en", "translation.de"]),
        ({"id": TEXT, **FIELDS}, ["translation.en", "translation.de"]),
        ({"pair": OTHER, "pair.q": TEXT, "pair.a": OTHER, "pair.a.b": TEXT}, ["pair.q", "pair.a.b"]),
        ({"title": TEXT, **FIELDS}, ["title", *FIELDS]),
        ({"id": TEXT, "meta": OTHER, "meta.url": TEXT}, ["id", "meta", "meta.url"]),
        ({"a": TEXT, "a.b": TEXT}, ["a", "a.b"]),
        ({"a": TEXT, "b": OTHER}, ["a", "b"]),
        ({"b": OTHER}, ["b"]),
    ],
)
def test_fields_are_offered_where_nothing_else_can_be_meant(kinds, expected):
    assert list(offered(kinds)) == expected


def test_fields_beside_two_columns_of_texts_and_numbers_are_not_proposed():
    kinds = {"q": TEXT, "meta": OTHER, "meta.url": TEXT, "meta.year": NUMBER}
    assert offered(kinds) == kinds | {"meta.year": OTHER}
    assert offered(kinds | {"d": TEXT}) == kinds | {"d": TEXT, "meta.year": OTHER, "meta.url": OTHER}


def test_a_column_with_one_field_of_texts_stands_for_it():
    kinds = {"q": TEXT, "p": OTHER, "p.text": TEXTS, "p.year": NUMBER, **FIELDS}
    assert spelled({"anchor": "q", "positive": "p"}, kinds) == {"anchor": "q", "positive": "p.text"}
    assert spelled({"anchor": "q", "negatives": ["p", "q"]}, kinds) == {"anchor": "q", "negatives": ["p.text", "q"]}
    for name in ("translation", "p.text", "none", 3):
        assert spelled({"anchor": name}, kinds) == {"anchor": name}
    assert fields_of("translation", kinds) == ["translation.en", "translation.de"]
    assert fields_of("q", kinds) == []
