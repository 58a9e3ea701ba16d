from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inbatch.data.sources.overlap import components, near_duplicates

keys = st.integers(0, 6)


@given(st.lists(st.tuples(keys, keys), max_size=20))
def test_components_are_the_chains_of_equal_keys(rows):
    labels = components([a for a, _ in rows], [b for _, b in rows])
    # Spread the smallest label along equal keys until nothing changes.
    expected = list(range(len(rows)))
    for _ in rows:
        for i, (a, b) in enumerate(rows):
            for j, (c, d) in enumerate(rows):
                if a == c or b == d:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert labels.tolist() == expected


def slow(texts: list[str], others: list[str], threshold: float, size: int) -> list[bool]:
    def grams(text: str) -> set[tuple[str, ...]]:
        tokens = re.findall(r"\w+|[^\w\s]", text, re.ASCII)
        tokens += [""] * (size - len(tokens))
        return {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}

    def similar(a: set, b: set) -> bool:
        # In whole numbers where the similarity is exactly at the threshold.
        return len(a & b) >= threshold * len(a | b) or math.isclose(len(a & b), threshold * len(a | b))

    return [any(similar(grams(a), grams(b)) for b in others) for a in texts]


words = st.lists(st.sampled_from(["a", "b", "c", "(", ")", "é", "def", "  "]), max_size=30).map(" ".join)


@settings(max_examples=300)
@given(
    st.lists(words, max_size=4),
    st.lists(words, max_size=6),
    st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]),
    st.integers(1, 5),
)
def test_near_duplicates_are_those_of_all_pairs(texts, others, threshold, size):
    assert near_duplicates(texts, others, threshold, size).tolist() == slow(texts, others, threshold, size)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_texts_with_some_words_changed(threshold):
    rng = np.random.default_rng(0)
    others = [" ".join(map(str, rng.integers(0, 300, size=60))) for _ in range(40)]
    texts = []
    for changes in range(20):
        tokens = others[changes].split()
        for place in rng.choice(60, changes, replace=False):
            tokens[place] = "new"
        texts.append(" ".join(tokens))
    found = near_duplicates(texts, others, threshold)
    assert found.tolist() == slow(texts, others, threshold, 5)
    assert found[0]
    assert not found[-1]
