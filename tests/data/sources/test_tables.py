from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.formats.columns import Roles
from inbatch.data.sources.tables import Table, make_table
from inbatch.data.views.named import Triplet
from inbatch.data.views.row_view import RowView
from inbatch.errors import UsageError
from inbatch.views import Views

ROLES = Roles("a", "p", ("n",), "s")


def table(columns: dict[str, list[Any]], roles: Roles, view: Any = "auto", negatives=None, keep_empty=False) -> Table:
    return make_table("rows", Dataset.from_dict(columns), roles, view, negatives, keep_empty)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("auto", ROLES),
        ("same", Roles("a")),
        ("pair", Roles("a", "p")),
        ("triplet", Roles("a", "p", ("n",))),
        ("scored", Roles("a", "p", (), "s")),
    ],
)
def test_a_view_keeps_the_roles_that_it_needs(view, expected):
    made = table({"a": ["x"], "p": ["y"], "n": ["z"], "s": [1.0]}, ROLES, view)
    assert made.roles == expected
    assert made.negatives == len(expected.negatives)


@pytest.mark.parametrize(
    ("view", "roles", "missing"),
    [
        ("pair", Roles("a"), "needs positive"),
        ("triplet", Roles("a", "p"), "needs negatives"),
        ("scored", Roles("a", "p"), "needs score"),
        ("same again", Roles("a"), "one of auto, same, pair, triplet, scored"),
    ],
)
def test_a_view_that_is_not_there_is_refused(view, roles, missing):
    with pytest.raises(UsageError, match=missing):
        table({"a": ["x"], "p": ["y"]}, roles, view)


def test_rows_with_an_empty_text_are_dropped_and_counted(caplog):
    columns = {
        "a": ["x1", "", "x3", " \t\n", "x5", "x6", None],
        "p": ["y1", "y2", None, "y4", "y5", "y6", "y7"],
        "n": ["z1", "z2", "z3", "z4", "\u00a0", "z6", "z7"],
    }
    with caplog.at_level(logging.WARNING):
        made = table(columns, Roles("a", "p", ("n",)))
    assert made.rows["a"][:] == ["x1", "x6"]
    assert made.dropped == 5
    assert "dropped 5 rows with an empty text; 2 are left" in caplog.text
    assert len(table(columns, Roles("a", "p", ("n",)), keep_empty=True)) == 7


def test_texts_that_the_view_does_not_use_may_be_empty():
    assert len(table({"a": ["x"], "p": [""]}, Roles("a", "p"), "same")) == 1


cells = st.none() | st.sampled_from(["", " ", "text"])


@given(st.lists(st.tuples(cells, st.none() | st.lists(cells, max_size=3)), min_size=1))
def test_lists_are_empty_where_an_item_or_all_are_missing(rows):
    features = pa.schema({"a": pa.string(), "p": pa.list_(pa.string())})
    columns = {"a": [a for a, _ in rows], "p": [p for _, p in rows]}
    kept = [a for a, p in rows if (a or "").strip() and p and all((item or "").strip() for item in p)]
    dataset = Dataset(pa.table(columns, schema=features))
    if kept:
        assert make_table("rows", dataset, Roles("a", "p"), "auto", None, False).rows["a"][:] == kept
    else:
        with pytest.raises(UsageError, match=f"all {len(rows)} rows have an empty text"):
            make_table("rows", dataset, Roles("a", "p"), "auto", None, False)


def test_a_table_without_rows_is_refused():
    with pytest.raises(UsageError, match="at least one row"):
        table({"a": []}, Roles("a"))


def test_lists_give_as_many_negatives_as_every_row_has():
    columns = {"a": ["x", "y"], "p": ["x", "y"], "n": [["1", "2", "3"], ["4", "5"]]}
    roles = Roles("a", "p", ("n",))
    assert table(columns, roles).negatives == 2
    assert table(columns, roles, negatives=7).negatives == 7
    assert table(columns, roles, negatives=0).negatives == 0


@pytest.mark.parametrize("wanted", [None, 1])
def test_a_row_without_negatives_is_refused_with_its_number(wanted):
    columns = {"a": ["x", "y"], "p": ["x", "y"], "n": [["1"], []]}
    with pytest.raises(
        UsageError,
        match="row 2: expected at least one hard negative in the column n; .*columns: {anchor: a, positive: p}",
    ):
        table(columns, Roles("a", "p", ("n",)), negatives=wanted)


def test_the_number_of_a_row_without_negatives_counts_rows_that_were_dropped():
    columns = {"a": ["", "y", "z"], "p": ["x", "y", "z"], "n": [["1"], ["1"], []]}
    with pytest.raises(UsageError, match="row 3: expected at least one hard negative"):
        table(columns, Roles("a", "p", ("n",)))


def test_fewer_than_no_negatives_are_refused():
    columns = {"a": ["x", "y"], "p": ["x", "y"], "n": [["1", "2"], ["3", "4", "5"]]}
    with pytest.raises(UsageError, match="expected negatives to be at least 0; got -1. Set negatives"):
        table(columns, Roles("a", "p", ("n",)), negatives=-1)


def test_a_number_of_negatives_needs_lists():
    with pytest.raises(UsageError, match="negatives = 3 needs a column of lists"):
        table({"a": ["x"], "p": ["y"], "n": ["z"]}, Roles("a", "p", ("n",)), negatives=3)


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused_with_its_row(score):
    columns = {"a": ["x", "y"], "p": ["x", "y"], "s": [1.0, score]}
    with pytest.raises(UsageError, match="row 2: expected a number in the score column s"):
        table(columns, Roles("a", "p", (), "s"))


class Doubled(RowView):
    def __call__(self, row, key) -> Any:
        return Views(row["anchor"], row["anchor"] * 2, ("n",)) if row["anchor"] != "list" else ["list"]

    def describe(self):
        return "doubled"


def test_a_view_of_a_user_says_what_every_row_has():
    made = table({"a": ["x", "y"]}, Roles("a"), Doubled())
    assert (made.negatives, made.first) == (1, Views("x", "xx", ("n",)))
    assert made.view.describe() == "doubled"
    with pytest.raises(UsageError, match="expected Doubled to make Views of a row; got list"):
        table({"a": ["list"]}, Roles("a"), Doubled())
    with pytest.raises(UsageError, match="negatives is a setting of views with a name; got it beside Doubled"):
        table({"a": ["x"]}, Roles("a"), Doubled(), 2)


class Undrawn(Doubled):
    def __call__(self, row, key):
        return Views(row["anchor"], row["positive"])


def test_a_view_of_a_user_makes_texts_and_no_lists_of_them():
    with pytest.raises(UsageError, match="expected Undrawn to make one text the positive; got list. Let it draw one"):
        table({"a": ["x"], "p": [["y", "z"]]}, Roles("a", "p"), Undrawn())


class Fixed(Doubled):
    def __init__(self, views):
        self.views = views

    def __call__(self, row, key):
        return self.views


@pytest.mark.parametrize(
    ("views", "why"),
    [
        (
            Views("a", "p", ("n",), [1.0, 0.5, 0.2]),
            "one score, or 2, of the positive and of each hard negative; got 3.",
        ),
        (Views("a", "p", labels=-1), "an int of at least 0 as the label; got -1. Take .inbatch.data.views.label_id."),
        (Views("a", "p", labels="x"), "an int of at least 0 as the label; got 'x'."),
        (Views("a", "p", others={"anchor": "x"}), "texts of different names; got anchor, positive, anchor. Rename"),
    ],
)
def test_scores_and_names_that_a_view_of_a_user_may_not_make_are_refused(views, why):
    with pytest.raises(UsageError, match=f"rows: expected Fixed to make {why}"):
        table({"a": ["x"]}, Roles("a"), Fixed(views))


class Asked(RowView):
    def __call__(self, row, key):
        return Views(f"{row['instruction']}: {row['anchor']}", row["anchor"])

    def describe(self):
        return "the instruction stands before the anchor"


def test_a_view_of_a_user_reads_the_instruction_of_all_rows():
    made = make_table("rows", Dataset.from_dict({"a": ["x"]}), Roles("a"), Asked(), None, False, "find")
    assert made.first.anchor == "find: x"
    assert made.instructed


def test_a_view_of_ours_by_class_path_counts_as_its_name_does():
    columns = {"a": ["x", "y"], "p": ["z", "z"], "n": [["1", "2"], ["3", "4", "5"]]}
    roles = Roles("a", "p", ("n",))
    assert [table(columns, roles, view).negatives for view in ("triplet", Triplet(), Triplet(3))] == [2, 2, 3]
    assert table(columns, roles, Triplet(3), 1).negatives == 1


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["x", "-1"], "row 2: in the label column l expected a word or an integer of at least 0; got '-1'. Mend"),
        (["3.5", "1"], "row 1: .* got '3.5'.*scores are set by columns.score"),
        (["x", None], "row 2: .* got ''"),
    ],
)
def test_labels_that_could_be_no_ids_are_refused_with_their_row(labels, why):
    with pytest.raises(UsageError, match=why):
        table({"a": ["x", "y"], "l": labels}, Roles("a", label="l"))


def test_labels_are_words_and_integers():
    made = table({"a": ["x", "y"], "l": ["7", "seven"]}, Roles("a", label="l"))
    assert made.first.labels == 7
    assert table({"a": ["x", "y"], "l": ["7", "seven"]}, Roles("a", label="l"), "same").first.labels == 7
