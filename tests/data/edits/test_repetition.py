"""Repeated words: how many, which, and that draws depend on seed and place alone."""

from collections import Counter

import pytest

from inbatch.data.edits.repetition import Repetition, repeat_words
from inbatch.errors import UsageError
from inbatch.views import Views

GCSE = Repetition(rate=0.05, most=10, short_of_bound=True, alike=True)
ESIMCSE = Repetition(rate=0.32)


def extra(text, how, draws=400):
    return Counter(len(repeat_words(text, str(i), how).split(" ")) - len(text.split(" ")) for i in range(draws))


@pytest.mark.parametrize("words", [2, 5, 59])
def test_gcse_repeats_at_most_one_word_of_a_short_text(words):
    found = extra(" ".join(f"w{i}" for i in range(words)), GCSE)
    assert set(found) == {0, 1}
    assert found[1] / 400 == pytest.approx(0.5, abs=0.1)


def test_the_bound_grows_with_the_text_and_ends_at_most():
    assert set(extra(" ".join(f"w{i}" for i in range(100)), GCSE)) == {0, 1, 2, 3, 4}
    assert max(extra(" ".join(f"w{i}" for i in range(1000)), GCSE)) == 9
    assert set(extra(" ".join(f"w{i}" for i in range(10)), ESIMCSE)) == {0, 1, 2, 3}


def test_words_are_repeated_where_they_stand_and_never_the_last():
    seen = set()
    for i in range(300):
        words = repeat_words("a b c", str(i), ESIMCSE).split(" ")
        assert [w for i, w in enumerate(words) if i == 0 or w != words[i - 1]] == ["a", "b", "c"]
        assert words.count("c") == 1
        assert max(Counter(words).values()) <= 2
        seen |= {w for w, n in Counter(words).items() if n == 2}
    assert seen == {"a", "b"}


@pytest.mark.parametrize("text", ["", "word"])
def test_nothing_to_repeat(text):
    assert all(repeat_words(text, str(i), ESIMCSE) == text for i in range(20))


def test_the_same_key_draws_the_same():
    assert repeat_words("a b c d e f", "7", ESIMCSE) == repeat_words("a b c d e f", "7", ESIMCSE)


def test_only_the_named_views_change_and_equal_ones_stay_equal():
    texts = ["one two three four"] * 20
    keys = [str(i) for i in range(20)]
    twice = Views(texts, texts, (texts,))
    alike = GCSE(twice, keys)
    assert alike.anchor == alike.positive != texts
    assert alike.negatives[0] == texts
    half = Views(texts, [*texts[:10], *["another text of words"] * 10])
    mixed = GCSE(half, keys)
    assert mixed.positive[:10] == mixed.anchor[:10] != texts[:10]
    assert mixed.positive[10:] == half.positive[10:]
    apart = ESIMCSE(twice, keys)
    assert apart.positive == texts != apart.anchor
    of_positive = Repetition(roles=("positive",))(twice, keys)
    assert of_positive.anchor == texts != of_positive.positive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "repetition rate"),
        ({"most": 0}, "at most 1"),
        ({"roles": ("negative",)}, "roles among"),
        ({"roles": ()}, "got none"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Repetition(**options)


def test_it_says_what_it_repeats():
    assert ESIMCSE.describe() == "words are repeated in anchor, at most 32% of them or 2"
