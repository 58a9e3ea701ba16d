"""Rows stacked to a batch: every text in its role and row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.views.stacking import stack
from inbatch.errors import UsageError
from inbatch.views import Views


@given(st.lists(st.lists(st.text(), min_size=5, max_size=5), min_size=1, max_size=6), st.booleans())
def test_stacked_rows_are_the_rows(texts, scored):
    rows = [
        Views(a, p, (n,), [1.0, 0.5] if scored else 0.25, others={"b": x, "a": y}, labels=i)
        for i, (a, p, n, x, y) in enumerate(texts)
    ]
    views = stack(rows)
    assert views.names == rows[0].names
    assert [list(row) for row in zip(*views)] == [list(row) for row in rows]
    assert (views.score.dtype, views.score.shape) == (torch.float32, (len(texts), 2) if scored else (len(texts),))
    assert views.labels is not None
    assert (views.labels.dtype, views.labels.tolist()) == (torch.int64, list(range(len(texts))))


def test_the_same_texts_are_one_list():
    a, b = "".join(["a", "a"]), "".join(["a", "a"])
    views = stack([Views(a, a), Views(b, b)])
    assert views.anchor is views.positive
    other = stack([Views(a, a), Views(b, a)])
    assert other.anchor is not other.positive


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Views("a", "p", ("n",)), "anchor, positive, negative_1. Mend"),
        (Views("a", "p", others={"c": "c"}), "anchor, positive, c. Mend"),
        (Views("a", "p", labels=1), "anchor, positive, a label. Mend"),
        (Views("a", "p", score=1.0), "anchor, positive, 1 scores. Mend"),
        (Views("a", "p", score=[1.0, 2.0]), "anchor, positive, 2 scores. Mend"),
    ],
)
def test_rows_of_different_shape_are_refused(row, said):
    with pytest.raises(UsageError, match=f"every row of a batch to have anchor, positive; row 2 has {said}"):
        stack([Views("a", "p"), row])
