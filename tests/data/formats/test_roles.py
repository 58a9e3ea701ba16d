"""Mappings of columns to roles, as they are typed and as they are looked through."""

from __future__ import annotations

from inbatch.data.formats.roles import Roles, by_number, flat, listed


def test_columns_of_the_others_stand_beside_the_rest():
    assert flat(None) is None
    assert flat({"anchor": "a"}) == {"anchor": "a"}
    assert flat({"anchor": "a", "others": {"context": "c"}}) == {"anchor": "a", "context": "c"}
    assert flat({"anchor": "a", "others": "c"}) == {"anchor": "a", "others": "c"}


def test_digits_become_numbers_of_columns():
    columns = {"anchor": "0", "negatives": ["1", "2"], "others": {"context": "3"}}
    assert by_number(columns) == {"anchor": 0, "negatives": [1, 2], "others": {"context": 3}}


def test_one_or_several_are_a_list():
    assert [listed(value) for value in ("ab", 3, ["a"], ("a", "b"))] == [["ab"], [3], ["a"], ["a", "b"]]


def test_columns_of_scores_are_none_one_or_several():
    assert [Roles("a", "p", (), score).scores for score in (None, "s", ("s", "t"))] == [(), ("s",), ("s", "t")]
