"""Scores of a table: finite numbers, one of each candidate where they are lists."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from inbatch.data.formats.columns import Roles
from inbatch.data.sources.tables import make_table
from inbatch.errors import UsageError

ROWS: dict[str, list[Any]] = {
    "a": ["q", "r"], "p": ["d", "e"], "ps": [["d"], ["e"]], "n": [["x"], ["y", "z"]], "m": ["x", "y"], "o": ["u", "v"],
    "s": [1.0, 0.5], "none": [1.0, None], "inf": [1.0, float("inf")], "pair": [["1"], ["2"]], "three": [["1", "0.5", "0"]] * 2,
    "each": [["1", "0.5"], ["1", "0.5", "0"]], "words": [["1", "x"], ["1", "2", "3"]], "lack": [["1", "0"], ["1", "2", None]],
}  # fmt: skip


def first(roles: Roles, view: Any = "auto", negatives: int | None = None) -> Any:
    return make_table("rows", Dataset.from_dict(ROWS), roles, view, negatives, False).first.score


def test_a_score_is_one_number_or_one_of_each_candidate():
    assert first(Roles("a", "p", (), "s")) == 1.0
    assert first(Roles("a", "p", (), "pair")) == 1.0
    assert first(Roles("a", "p", ("n",), "each")) == [1.0, 0.5]
    assert first(Roles("a", "p", ("m", "o"), "three")) == [1.0, 0.5, 0.0]
    assert first(Roles("a", "p", ("m",), ("s", "s"))) == [1.0, 1.0]
    # What a view leaves out takes its score along.
    assert first(Roles("a", "p", ("n",), "each"), "scored") == 1.0
    assert first(Roles("a", "p", ("n",), "words"), "pair") is None


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        (Roles("a", "p", (), "none"), "row 2: expected a number in the score column none; got nan"),
        (Roles("a", "p", ("m",), ("s", "inf")), "row 2: expected a number in the score column inf; got inf"),
        (Roles("a", "p", ("n",), "three"), "row 1: expected 2 scores in the column three.*; got 3. Mend"),
        (Roles("a", "p", ("m",), "each"), "row 2: expected 2 scores in the column each.*; got 3"),
        (Roles("a", "p", ("n",), "words"), "row 1: expected a number in the score column words; got .*'x'"),
        (Roles("a", "p", ("n",), "lack"), "row 2: expected a number in the score column lack; got .*None"),
        (Roles("a", "ps", ("n",), "each"), "expected one positive a row beside the lists of scores in the column each"),
    ],
)
def test_scores_that_do_not_fit_are_refused_with_their_row(roles, why):
    with pytest.raises(UsageError, match=why):
        first(roles)
