"""Labels as numbers: integers as they are, words by their hash, and nothing that could be the wildcard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.views.labels import label_id
from inbatch.text.ids import text_id


@given(st.integers(0, 2**63 - 1))
def test_integers_are_taken_as_they_are(number):
    assert label_id(str(number)) == label_id(f"{number}.0") == number
    assert label_id(number) == number


@given(st.text(st.characters(categories=["L"]), min_size=1), st.text(st.characters(categories=["L"]), min_size=1))
def test_words_are_equal_where_their_ids_are_and_never_the_wildcard(a, b):
    assert (label_id(a) == label_id(b)) == (a == b)
    assert 0 <= label_id(a) == text_id(a) < 2**63


@pytest.mark.parametrize("word", ["007", "2.3.1", "B12", "nan", "-", "a-1", str(2**63)])
def test_what_is_no_plain_number_is_a_word(word):
    assert label_id(word) == text_id(word)


def test_blanks_around_a_label_are_no_part_of_it():
    assert label_id(" 3") == label_id("3 ") == 3
    assert label_id(" cat\t") == label_id("cat")


@pytest.mark.parametrize("label", ["-1", " -1", "-1.0", "3.8", ".5", "1e5", "+2", "", "  ", -1, 3.8, float("nan")])
def test_blanks_negative_numbers_and_fractions_are_refused(label):
    with pytest.raises(ValueError, match="a word or an integer of at least 0; got"):
        label_id(label)
