from decimal import Decimal

import pyarrow as pa
import pytest

from inbatch.data.formats.cells import ARROW, Literal, MixedColumn, as_number, as_text, as_texts, batches, kind_of
from inbatch.data.formats.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS
from inbatch.errors import UsageError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("a", "a"),
        ("NaN", "NaN"),
        (Literal("1.50"), "1.50"),
        (Literal("NaN"), None),
        ("\ud800", "\ufffd"),
        (b"caf\xc3\xa9", "caf\u00e9"),
        (b"a\xed\xa0\x80", "a\ufffd"),
        (3, "3"),
        (0.5, "0.5"),
        (float("nan"), None),
        (True, "true"),
        (False, "false"),
        (Decimal("1.50"), "1.50"),
    ],
)
def test_a_cell_becomes_the_text_that_its_file_shows(value, expected):
    found = as_text(value)
    assert (found, type(found)) == (expected, type(expected))
    assert as_texts(value) == (None if expected is None else [expected])


@pytest.mark.parametrize("value", [[], {}, ["a"], object(), b"caf\xe9"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        as_text(value)


def test_a_list_keeps_its_items_and_their_nulls():
    assert as_texts(["a", None, Literal("3")]) == ["a", None, "3"]
    assert as_texts([]) == []
    for value in ([["a"]], [{"a": "b"}], {}):
        with pytest.raises(TypeError):
            as_texts(value)


@pytest.mark.parametrize("value", [None, [], {}, "", "high", "nan", Literal("Infinity"), float("inf")])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        as_number(value)


@pytest.mark.parametrize("value", [1, "1", "1.0", " 1e0", Literal("1"), True, Decimal("1.00")])
def test_numbers_are_read_from_what_writes_one(value):
    assert as_number(value) == 1.0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], TEXT),
        (["a", Literal("3")], TEXT),
        (["a", True], TEXT),
        (["a", {"b": 1}], TEXT),
        (["1", "2.5", None], DIGITS),
        (["1", Literal("2")], DIGITS),
        (["1", "", " "], DIGITS),
        (["", " "], TEXT),
        ([Literal("1"), None, True], NUMBER),
        ([None, None], OTHER),
        ([], OTHER),
        ([["a"], []], TEXTS),
        ([[], None], TEXTS),
        ([["a", Literal("3"), None]], TEXTS),
        (["a", ["b"]], TEXTS),
        ([["a"], [{"b": 1}]], TEXTS),
        ([[Literal("1")], []], OTHER),
        ([[], Literal("1")], OTHER),
        ([[["a"]]], OTHER),
        ([[{"a": "b"}]], OTHER),
        ([{"a": "b"}, None], OTHER),
    ],
)
def test_the_kind_of_cells(values, kind):
    assert kind_of(values) == kind


def read(rows, wanted):
    schema = pa.schema({name: ARROW[kind] for name, kind in wanted.items()})
    made = batches("file", iter(enumerate(rows, 1)), wanted, schema, "row", lambda number: f"Mend {number}.")
    return pa.Table.from_batches(made, schema).to_pydict()


def test_rows_become_batches_of_the_wanted_columns():
    rows = [{"a": "x", "b": {"c": "y"}, "n": Literal("1")}, {"b": None, "n": "2", "other": object()}] * 1001
    found = read(rows, {"a": TEXT, "b.c": TEXT, "n": NUMBER})
    assert found == {"a": ["x", None] * 1001, "b.c": ["y", None] * 1001, "n": [1.0, 2.0] * 1001}


def test_a_cell_that_does_not_fit_is_refused_with_its_place_and_the_remedy():
    with pytest.raises(UsageError, match=r"^file, row 2, column a: expected a text; got .*Mend 2\.$"):
        read([{"a": "x"}, {"a": {}}], {"a": TEXT})
    with pytest.raises(UsageError, match="row 1, column a: expected a number; got 'None'"):
        read([{}], {"a": NUMBER})
    for kind in (TEXT, DIGITS):
        with pytest.raises(MixedColumn, match="a"):
            read([{"a": ["x"]}], {"a": kind})
    with pytest.raises(UsageError, match="expected a text"):
        read([{"a": [[]]}], {"a": TEXT})
