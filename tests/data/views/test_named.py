"""The views that have a name, the same by class path, and classes that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.formats.columns import Roles
from inbatch.data.views.named import Auto, Pair, Same, Scored, Triplet, view_of
from inbatch.data.views.row_view import rows_of
from inbatch.errors import UsageError
from inbatch.views import Views

ROW = {"anchor": "q", "positive": ["d", "e"], "negatives": ["x", "y", "z"], "score": [1.0, 0.1, 0.2, 0.3], "label": 4}


def test_a_text_is_its_own_positive_where_there_is_none():
    views = Auto()({"anchor": "a"}, "")
    assert views == Views("a", "a")
    assert views.anchor is views.positive  # so that it is tokenized once


def test_a_scored_triplet_has_all_roles():
    rows = rows_of({"a": ["q"], "p": ["d"], "n1": ["x"], "n2": [None], "s": [2.5]}, Roles("a", "p", ("n1", "n2"), "s"))
    assert Auto(2)(rows[0], "") == Views("q", "d", ("x", ""), 2.5)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True), st.integers(0, 20), st.text())
def test_negatives_are_drawn_without_repetition_while_they_last(items, count, key):
    row = {"anchor": "q", "positive": "d", "negatives": [str(item) for item in items]}
    drawn = Auto(count)(row, key).negatives
    assert len(drawn) == count
    for item in items:
        assert count // len(items) <= drawn.count(str(item)) <= -(-count // len(items))
    assert drawn == Auto(count)(row, key).negatives


@given(st.integers(0, 3), st.text())
def test_scores_follow_the_hard_negatives_that_are_drawn(count, key):
    views = Auto(count)(ROW, key)
    of = dict(zip(["x", "y", "z"], [0.1, 0.2, 0.3]))
    assert views.score == ([1.0, *(of[text] for text in views.negatives)] if count else 1.0)
    assert views.positive in ("d", "e")
    assert views.labels == 4


def test_other_texts_are_taken_and_of_their_lists_one_is_drawn():
    row = {"anchor": "a", "context": "c", "positive_2": [str(i) for i in range(50)], "history": []}
    drawn = {Auto()(row, str(key)).others["positive_2"] for key in range(20)}
    assert len(drawn) > 5
    views = Auto()(row, "0")
    assert (views.names, views.others["context"], views.others["history"]) == (
        ("anchor", "positive", "context", "history", "positive_2"),
        "c",
        "",
    )


@pytest.mark.parametrize(
    ("view", "kept"),
    [
        (Same(), Roles("a", label="l", instruction="i")),
        (Pair(), Roles("a", "p", label="l", instruction="i")),
        (Triplet(), Roles("a", "p", ("n",), label="l", instruction="i")),
        (Scored(), Roles("a", "p", (), "s", label="l", instruction="i")),
    ],
)
def test_a_view_keeps_the_roles_that_it_needs_and_what_is_said_of_the_row(view, kept):
    roles = Roles("a", "p", ("n",), "s", label="l", instruction="i", others={"context": "c"})
    assert view.reads(roles, "rows") == kept
    assert Auto().reads(roles, "rows") == roles
    if view.needs:
        with pytest.raises(UsageError, match=r"rows: view \w+ needs positive; found anchor = a"):
            view.reads(Roles("a"), "rows")


def test_views_say_what_they_are():
    assert Auto().describe() == "auto: every role"
    assert Triplet().describe() == "triplet: anchor, positive, negatives"


def test_pairs_are_all_that_may_be_drawn():
    assert [text for _, text in Auto()(ROW, "") and Auto().pairs(ROW)] == ["d", "e", "x", "y", "z"]
    assert [text for _, text in Auto(0).pairs(ROW)] == ["d", "e"]
    kept = {"anchor": "q", "positive": []}  # by empty: keep
    assert Auto().pairs(kept) == [("q", Auto()(kept, "").positive)]


def test_a_view_is_a_name_an_object_or_a_class_path():
    assert view_of("pair", "rows") == Pair()
    assert view_of(Triplet(3), "rows") == Triplet(3)
    path = {"class_path": "inbatch.data.views.Triplet", "init_args": {"negatives": 3}}
    assert view_of(path, "rows") == Triplet(3)
    assert view_of(Triplet(3).spelled, "rows") == Triplet(3)
    assert Auto().spelled == {"class_path": "inbatch.data.views.named.Auto"}


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ("none", "one of auto, same, pair, triplet, scored, or class_path of a RowView; got 'none'"),
        (None, "got None"),
        ({"class_path": "inbatch.views.Views", "init_args": {"anchor": 1, "positive": 2}}, "got {'class_path'"),
        ({"class_path": "inbatch.no.Such"}, "expected a view's class_path and its init_args.*No module named"),
        ({"class_path": "Such"}, "expected a view's class_path"),
        ({"class_path": "inbatch.data.views.Pair", "init_args": {"count": 1}}, "unexpected keyword argument 'count'"),
    ],
)
def test_what_is_no_view_is_refused(view, why):
    with pytest.raises(UsageError, match=why):
        view_of(view, "rows")
