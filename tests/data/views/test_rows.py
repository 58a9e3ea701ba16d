from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset

from inbatch.data.batches.sampler import Draw
from inbatch.data.edits.edit import Edit
from inbatch.data.edits.repetition import Repetition
from inbatch.data.formats.columns import Roles
from inbatch.data.sources.tables import Table, make_table
from inbatch.data.views.row_view import RowView
from inbatch.data.views.rows import ViewDataset, pairs_of
from inbatch.errors import UsageError
from inbatch.views import Views


def table(columns: dict, roles: Roles, negatives: int | None = None, view: Any = "auto") -> Table:
    return make_table("rows", Dataset.from_dict(columns), roles, view, negatives, False)


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
    assert views.source is not None
    assert views.source.tolist() == [1, 0, 1, 0, 0]
    assert len(dataset) == 4
    assert dataset[Draw(0, [2, 3])].anchor == ["c", "d"]


def test_an_unknown_kind_of_ids_is_refused():
    with pytest.raises(UsageError, match="text or position; got 'none'. Set data.ids"):
        ViewDataset([], 0, "none")  # type: ignore[arg-type]


def test_the_dataset_attaches_the_ids_that_are_asked_for():
    rows = [table({"t": ["same", "same"]}, Roles("t"))]
    text = ViewDataset(rows, 0, "text")[Draw(0, [0, 1])].ids
    assert text is not None
    assert text.anchor[0] == text.anchor[1] == text.positive[0]
    position = ViewDataset(rows, 0, "position")[Draw(0, [0, 1])].ids
    assert position is not None
    assert len({*position.anchor.tolist(), *position.positive.tolist()}) == 4


class Shuffled(RowView):
    """The texts of a row in an order that follows from the key."""

    def __call__(self, row, key):
        texts = [row["anchor"], row["positive"], row["context"]]
        random.Random(key).shuffle(texts)
        return Views(texts[0], texts[1], others={"context": texts[2]}, labels=row["label"])

    def describe(self):
        return "shuffled"


class Marked(Edit):
    """Puts a number that is drawn behind the texts of one view."""

    def __init__(self, role="context"):
        self.roles = (role,)

    def __call__(self, views, keys):
        drawn = [random.Random(key).randrange(1000) for key in keys]
        changed = [
            [f"{text} {number}" for text, number in zip(texts, drawn)] if name in self.roles else texts
            for name, texts in zip(views.names, views)
        ]
        return views.replace_payloads(changed)

    def describe(self):
        return f"{self.roles[0]} is marked"


def shuffled() -> ViewDataset:
    columns = {"a": list("abcd"), "p": list("ABCD"), "c": list("1234"), "l": ["x", "y", "7", "x"]}
    roles = Roles("a", "p", label="l", others={"context": "c"})
    return ViewDataset([table(columns, roles, view=Shuffled())], 3, "text", [Marked(), Repetition(), Marked()])


def test_views_and_edits_of_a_user_draw_the_same_on_every_number_of_ranks_and_anew_at_each_visit():
    dataset = shuffled()
    whole = dataset[Draw(40, [2, 0, 3, 1])]
    assert whole.names == ("anchor", "positive", "context")
    parts = [dataset[Draw(40, [2])], dataset[Draw(41, [0, 3, 1])]]
    for column, *halves in zip(whole, *parts):
        assert column == halves[0] + halves[1]
    again = shuffled()[Draw(40, [2, 0, 3, 1])]
    assert list(again) == list(whole)
    assert list(dataset[Draw(44, [2, 0, 3, 1])]) != list(whole)


def test_labels_and_ids_come_beside_the_texts_and_edits_after_them():
    views = shuffled()[Draw(0, [0, 1, 2, 3])]
    assert views.labels is not None
    assert views.ids is not None
    assert views.labels[0] == views.labels[3] != views.labels[1]
    assert views.labels[2] == 7
    assert views.ids.names == views.names
    plain = ViewDataset(shuffled().tables, 3, "text")[Draw(0, [0, 1, 2, 3])]
    assert plain.ids is not None
    assert all((a == b).all() for a, b in zip(views.ids, plain.ids))
    # Each of two edits of one kind draws for itself.
    first, second = zip(*(text.split(" ")[1:] for text in views.others["context"]))
    assert first != second


class Upper(Edit):
    """Makes new views of the texts, and of so many rows at most."""

    roles = ("anchor",)

    def __init__(self, most=None):
        self.most = most

    def __call__(self, views, keys):
        return Views([text.upper() for text in views.anchor[: self.most]], views.positive, others=views.others)

    def describe(self):
        return "the anchor is written in capitals"


def test_an_edit_changes_texts_and_nothing_else():
    tables = shuffled().tables
    plain = ViewDataset(tables, 3, "text")[Draw(0, [0, 1])]
    edited = ViewDataset(tables, 3, "text", [Upper()])[Draw(0, [0, 1])]
    assert edited.anchor == [text.upper() for text in plain.anchor]
    assert edited.labels is not None
    assert edited.source is not None
    assert edited.labels.tolist() == plain.labels.tolist()  # type: ignore[union-attr]
    with pytest.raises(
        UsageError, match="edit Upper to return 2 texts each of anchor, positive, context; got 1 of anchor, 2"
    ):
        ViewDataset(tables, 3, "text", [Upper(1)])[Draw(0, [0, 1])]


def test_the_first_edit_draws_what_one_alone_does():
    rows = [table({"t": ["one two three four five six"] * 8}, Roles("t"))]
    alone = ViewDataset(rows, 0, "text", [Repetition()])[Draw(0, list(range(8)))]
    assert alone.anchor == Repetition()(Views(alone.positive, alone.positive), [f"0 {i}" for i in range(8)]).anchor
    beside = ViewDataset(rows, 0, "text", [Repetition(), Marked("positive")])[Draw(0, list(range(8)))]
    assert beside.anchor == alone.anchor


def test_instructions_of_a_source_and_of_a_column_stand_beside_the_views():
    one = replace(table({"t": ["a", "b"]}, Roles("t")), instruction="find")
    two = table({"t": ["c"], "i": ["seek"]}, Roles("t", instruction="i"))
    assert ViewDataset([one, two], 0, "text")[Draw(0, [2, 0])].instructions == ["seek", "find"]
    assert ViewDataset([two], 0, "text")[Draw(0, [0])].instructions == ["seek"]


def test_all_pairs_of_rows_are_those_that_may_be_drawn():
    rows = {"a": ["q", "r"], "p": [["d", "e"], ["f"]], "n": [["x"], ["y", "z"]], "i": ["find", "seek"]}
    of_lists = table(rows, Roles("a", "p", ("n",), instruction="i"))
    own = replace(table({"t": ["s"]}, Roles("t")), instruction="look")
    assert list(pairs_of([of_lists, own])) == [
        ("find", [("q", "d"), ("q", "e"), ("q", "x")]),
        ("seek", [("r", "f"), ("r", "y"), ("r", "z")]),
        ("look", [("s", "s")]),
    ]
    without = table(rows, Roles("a", "p", ("n",)), 0)
    assert list(pairs_of([without]))[1] == (None, [("r", "f")])
    with pytest.raises(UsageError, match="not known of the view Shuffled"):
        list(pairs_of(shuffled().tables))
