"""The cells of a row by their roles, and what is drawn from a key."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.formats.columns import Roles
from inbatch.data.views.row_view import RowView, draw, rows_of
from inbatch.errors import UsageError
from inbatch.views import Views


class Cut(RowView):
    def __init__(self, words: int, least: int = 1):
        self.words, self.least = words, least

    def __call__(self, row, key):
        return Views(row["anchor"], " ".join(row["anchor"].split(" ")[: self.words]))

    def describe(self):
        return f"the first {self.words} words are the positive"


def test_cells_get_the_names_of_their_roles():
    columns = {
        "a": ["q", None], "p": [["d", None], []], "n": [["x"], None], "s": [["1", "0.5"], ["2", "3e-1"]],
        "l": ["7", "seven"], "c": ["c", None], "i": ["find", "seek"],
    }  # fmt: skip
    roles = Roles("a", "p", ("n",), "s", instruction="i", label="l", others={"context": "c"})
    first, second = rows_of(columns, roles)
    assert first == {
        "anchor": "q", "positive": ["d", ""], "negatives": ["x"], "score": [1.0, 0.5], "label": 7, "context": "c",
        "instruction": "find",
    }  # fmt: skip
    assert (second["anchor"], second["positive"], second["negatives"]) == ("", [], [""])
    assert second["score"] == [2.0, 0.3]
    assert second["label"] > 7


def test_columns_of_single_texts_and_scores_are_gathered():
    columns = {"a": ["q"], "p": ["d"], "n1": ["x"], "n2": ["y"], "s": [1.0], "t": [0.5], "u": [0.25]}
    (row,) = rows_of(columns, Roles("a", "p", ("n1", "n2"), ("s", "t", "u")), "find")
    assert row == {
        "anchor": "q", "positive": "d", "negatives": ["x", "y"], "score": [1.0, 0.5, 0.25], "instruction": "find"
    }  # fmt: skip
    assert rows_of(columns, Roles("a", "p", (), "s")) == [{"anchor": "q", "positive": "d", "score": 1.0}]


@given(st.integers(1, 9), st.integers(0, 20), st.text())
def test_a_draw_is_that_of_the_items_themselves(among, count, key):
    items = [str(i) for i in range(among)]
    whole, rest = divmod(count, among)
    assert [items[i] for i in draw(among, count, key)] == items * whole + random.Random(key).sample(items, rest)


def test_nothing_is_seeded_where_nothing_is_drawn(monkeypatch):
    monkeypatch.delattr(random, "Random")
    assert [draw(3, count, "0 7") for count in (0, 3, 6)] == [[], [0, 1, 2], [0, 1, 2, 0, 1, 2]]


def test_a_view_reads_all_roles_says_its_settings_and_knows_no_pairs():
    roles = Roles("a", "p")
    assert Cut(2).reads(roles, "rows") is roles
    assert Cut(2).spelled == {"class_path": f"{Cut.__module__}.Cut", "init_args": {"words": 2}}
    with pytest.raises(UsageError, match="not known of the view Cut. Set view on data.sources"):
        Cut(2).pairs({"anchor": "a"})
