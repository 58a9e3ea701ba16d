"""Ids of texts: equal where the texts are, or unique over a run."""

from __future__ import annotations

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.views.ids import position_ids, text_ids
from inbatch.text.ids import text_id
from inbatch.views import Views


@given(st.text(), st.text())
def test_text_ids_are_equal_exactly_where_the_texts_are(a, b):
    assert (text_id(a) == text_id(b)) == (a == b)
    assert 0 <= text_id(a) < 2**63


def test_text_ids_are_the_same_in_every_process():
    texts = ["", "a", "naïve 猫", "a\ud800"]
    code = f"from inbatch.text.ids import text_id; print([text_id(t) for t in {texts!a}])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(other.stdout) == [text_id(text) for text in texts]
    assert text_id("a") == 1702698405120146464  # and in every release: ids may be kept in files


def test_ids_have_one_column_a_view():
    views = Views(
        ["a", "b"], ["b", "c"], (["a", "a"],), torch.ones(2), others={"context": ["c", "b"]}, labels=torch.ones(2)
    )
    ids = text_ids(views)
    assert [column.dtype for column in ids] == [torch.int64] * 4
    assert ids.anchor[1] == ids.positive[0]
    assert ids.anchor[0] == ids.negatives[0][0] == ids.negatives[0][1]
    assert ids.others["context"][1] == ids.anchor[1]
    assert (ids.score, ids.labels) == (None, None)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=5), st.integers(0, 2**40))
def test_position_ids_are_unique_over_draws_and_views(draws, position):
    seen: list[int] = []
    for count, negatives in draws:
        views = Views(["t"] * count, ["t"] * count, (["t"] * count,) * negatives, others={"context": ["t"] * count})
        for column in position_ids(views, position):
            assert column.dtype == torch.int64
            seen += column.tolist()
        position += count
    assert len(set(seen)) == len(seen)
    assert min(seen) >= 0
