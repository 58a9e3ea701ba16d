"""Views by name: which play which role, with their ids, and what is refused."""

import re

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.combine.chosen_views import check_names, names, require_names
from inbatch.views import Views


def test_the_first_is_the_anchor_and_ids_follow():
    ids = Views(torch.tensor([1]), torch.tensor([2]), (torch.tensor([3]), torch.tensor([4])))
    views = Views("a", "p", ("n", "m"), score=torch.tensor([0.5]), ids=ids, instructions=["find"])
    found = views.chosen(["negative_2", "anchor", "negative_1"])
    assert list(found) == ["m", "a", "n"]
    assert [int(each) for each in found.ids] == [4, 1, 3]
    assert found.score is None
    assert found.instructions == ["find"]
    assert views.chosen(["positive", "anchor"]).score is views.score
    assert names(2) == ["anchor", "positive", "negative_1", "negative_2"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["anchor"], "two or more different views.*; got anchor. Set objective.views.a."),
        ([], "two or more different views.*; got none. Set objective.views.a."),
        (["anchor", "anchor"], "two or more different views.*; got anchor, anchor. Set"),
    ],
)  # fmt: skip
def test_what_names_no_view_is_refused(chosen, message):
    with pytest.raises(UsageError, match=message):
        check_names(chosen, "objective.views.a")


def test_views_that_the_rows_lack_are_refused():
    batch = BatchFacts(rows=2, negatives=1, scored=False, others=("context",))
    require_names(["anchor", "negative_1", "context"], batch, "objective.views.a")
    for wrong, hint in (("negative_2", "Did you mean negative_1?"), ("postive", "Did you mean positive?"), ("zzz", "")):
        message = f"every row has: anchor, positive, negative_1, context; got {wrong}. {hint}".strip()
        with pytest.raises(UsageError, match=re.escape(message) + r" Set objective\.views\.a"):
            require_names(["anchor", wrong], batch, "objective.views.a")


def test_further_texts_can_be_chosen_and_what_is_of_the_row_stays():
    views = Views("a", "p", others={"context": "c"}, labels=torch.tensor([4]), source=torch.tensor([0]))
    found = views.chosen(["context", "anchor", "positive"])
    assert (found.anchor, found.positive, found.negatives, found.others) == ("c", "a", ("p",), {})
    assert found.labels is views.labels
    assert found.source is views.source


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (["anchor", "positive", "negative_2"], [[0.9, 0.1]]),
        (["anchor", "positive"], [0.9]),
        (["positive", "anchor", "negative_2"], [0.9]),
        (["anchor", "positive", "context"], [0.9]),
        (["anchor", "negative_1", "positive"], None),
    ],
)
def test_scores_a_candidate_stay_with_the_candidates(chosen, expected):
    views = Views("a", "p", ("n", "m"), score=torch.tensor([[0.9, 0.5, 0.1]]), others={"context": "c"})
    score = views.chosen(chosen).score
    assert (score if score is None else score.tolist()) == (expected and torch.tensor(expected).tolist())
