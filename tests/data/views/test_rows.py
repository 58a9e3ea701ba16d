from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.batches.sampler import Draw
from inbatch.data.formats.columns import Roles
from inbatch.data.sources.tables import Table, make_table
from inbatch.data.views.rows import ViewDataset, make_views, position_ids, text_ids
from inbatch.errors import UsageError
from inbatch.text.ids import text_id
from inbatch.views import Views


def table(columns: dict, roles: Roles, negatives: int | None = None) -> Table:
    return make_table("rows", Dataset.from_dict(columns), roles, "auto", negatives, False)


def test_a_text_is_its_own_positive_where_there_is_none():
    views = make_views({"t": ["a", "b"]}, Roles("t"), 0, ["", ""])
    assert views == Views(["a", "b"], ["a", "b"])
    assert views.anchor is views.positive  # so that it is tokenized once


def test_a_scored_triplet_has_all_roles():
    rows = {"a": ["q"], "p": ["d"], "n1": ["x"], "n2": [None], "s": [2.5]}
    views = make_views(rows, Roles("a", "p", ("n1", "n2"), "s"), 2, [""])
    assert list(views) == [["q"], ["d"], ["x"], [""]]
    assert views.score.dtype == torch.float32
    assert views.score.tolist() == [2.5]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True), st.integers(0, 20), st.text())
def test_negatives_are_drawn_without_repetition_while_they_last(items, count, key):
    rows = {"a": ["q"], "p": [["d"]], "n": [[str(item) for item in items]]}
    drawn = [column[0] for column in make_views(rows, Roles("a", "p", ("n",)), count, [key]).negatives]
    assert len(drawn) == count
    for item in items:
        assert count // len(items) <= drawn.count(str(item)) <= -(-count // len(items))
    assert drawn == [column[0] for column in make_views(rows, Roles("a", "p", ("n",)), count, [key]).negatives]


def test_what_is_drawn_changes_from_visit_to_visit_and_not_with_the_ranks():
    columns = {"a": list("abcdefgh"), "p": [[f"{c}{i}" for i in range(50)] for c in "abcdefgh"]}
    dataset = ViewDataset([table(columns, Roles("a", "p"))], seed=0, ids="text")
    whole = dataset[Draw(100, [3, 1, 4, 5])].positive
    assert dataset[Draw(100, [3, 1])].positive + dataset[Draw(102, [4, 5])].positive == whole
    assert dataset[Draw(200, [3, 1, 4, 5])].positive != whole
    other = ViewDataset([table(columns, Roles("a", "p"))], seed=1, ids="text")
    assert other[Draw(100, [3, 1, 4, 5])].positive != whole


def test_rows_of_several_tables_keep_the_order_of_the_draw():
    one = table({"q": ["a", "b"], "d": ["A", "B"], "s": [1, 2]}, Roles("q", "d", (), "s"))
    two = table({"x": ["c", "d"], "y": ["C", "D"], "s": [3, 4]}, Roles("x", "y", (), "s"))
    dataset = ViewDataset([one, two], 0, "text")
    views = dataset[Draw(0, [3, 0, 2, 1, 1])]
    assert (views.anchor, views.positive) == (["d", "a", "c", "b", "b"], ["D", "A", "C", "B", "B"])
    assert views.score.tolist() == [4, 1, 3, 2, 2]
    assert len(dataset) == 4
    assert dataset[Draw(0, [2, 3])].anchor == ["c", "d"]


def test_an_unknown_kind_of_ids_is_refused():
    with pytest.raises(UsageError, match="text or position; got 'none'. Set data.ids"):
        ViewDataset([], 0, "none")  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_text_ids_are_equal_exactly_where_the_texts_are(a, b):
    assert (text_id(a) == text_id(b)) == (a == b)
    assert 0 <= text_id(a) < 2**63


def test_text_ids_are_the_same_in_every_process():
    texts = ["", "a", "naïve 猫", "a\ud800"]
    code = f"from inbatch.data.views.rows import text_id; print([text_id(t) for t in {texts!a}])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(other.stdout) == [text_id(text) for text in texts]
    assert text_id("a") == 1702698405120146464  # and in every release: ids may be kept in files


def test_ids_have_one_column_a_view():
    views = Views(["a", "b"], ["b", "c"], (["a", "a"],), torch.ones(2))
    ids = text_ids(views)
    assert [column.dtype for column in ids] == [torch.int64] * 3
    assert ids.anchor[1] == ids.positive[0]
    assert ids.anchor[0] == ids.negatives[0][0] == ids.negatives[0][1]
    assert ids.score is None


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=5), st.integers(0, 2**40))
def test_position_ids_are_unique_over_draws_and_views(draws, position):
    seen: list[int] = []
    for count, negatives in draws:
        views = Views(["t"] * count, ["t"] * count, (["t"] * count,) * negatives)
        for column in position_ids(views, position):
            assert column.dtype == torch.int64
            seen += column.tolist()
        position += count
    assert len(set(seen)) == len(seen)
    assert min(seen) >= 0


def test_the_dataset_attaches_the_ids_that_are_asked_for():
    rows = [table({"t": ["same", "same"]}, Roles("t"))]
    text = ViewDataset(rows, 0, "text")[Draw(0, [0, 1])].ids
    assert text is not None
    assert text.anchor[0] == text.anchor[1] == text.positive[0]
    position = ViewDataset(rows, 0, "position")[Draw(0, [0, 1])].ids
    assert position is not None
    assert len({*position.anchor.tolist(), *position.positive.tolist()}) == 4
