"""Views by name: which play which role, with their ids, and what is refused."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.combine.chosen_views import check_names, choose, names, require_names
from inbatch.views import Views


def test_the_first_is_the_anchor_and_ids_follow():
    ids = Views(torch.tensor([1]), torch.tensor([2]), (torch.tensor([3]), torch.tensor([4])))
    views = Views("a", "p", ("n", "m"), score=torch.tensor([0.5]), ids=ids, instructions=["find"])
    found = choose(views, ["negative_2", "anchor", "negative_1"])
    assert list(found) == ["m", "a", "n"]
    assert [int(each) for each in found.ids] == [4, 1, 3]
    assert found.score is None
    assert found.instructions == ["find"]
    assert choose(views, ["positive", "anchor"]).score is views.score
    assert choose(views, None) is views
    assert names(2) == ["anchor", "positive", "negative_1", "negative_2"]


def test_labels_and_sources_are_of_the_row_whatever_is_chosen():
    views = Views("a", "p", ("n",), labels=torch.tensor([7]), source=torch.tensor([1]))
    found = choose(views, ["positive", "negative_1"])
    assert found.labels is views.labels
    assert found.source is views.source


def test_a_score_of_each_candidate_follows_its_text():
    views = Views("a", "p", ("n", "m"), score=torch.tensor([[0.9, 0.1, 0.2]]))
    assert torch.equal(choose(views, ["anchor", "positive", "negative_2"]).score, torch.tensor([[0.9, 0.2]]))
    assert torch.equal(choose(views, ["anchor", "positive"]).score, torch.tensor([0.9]))
    # What the negatives score with the positive is not known.
    assert torch.equal(choose(views, ["positive", "anchor", "negative_2"]).score, torch.tensor([0.9]))
    assert choose(views, ["anchor", "negative_2"]).score is None


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (["anchor", "postive"], "anchor, positive, negative_1, …; got postive. Did you mean positive. Set objective.views.a."),
        (["anchor", "negative_0"], "got negative_0. Did you mean negative_1. Set objective.views.a."),
        (["anchor"], "two or more different views.*; got anchor. Set objective.views.a."),
        ([], "two or more different views.*; got none. Set objective.views.a."),
        (["anchor", "anchor"], "two or more different views.*; got anchor, anchor. Set"),
    ],
)  # fmt: skip
def test_what_names_no_view_is_refused(chosen, message):
    with pytest.raises(UsageError, match=message):
        check_names(chosen, "objective.views.a")


def test_views_that_the_rows_lack_are_refused():
    require_names(["anchor", "negative_1"], 1, "objective.views.a")
    with pytest.raises(UsageError, match="every row has: anchor, positive, negative_1; got negative_2. Set objective."):
        require_names(["anchor", "negative_2"], 1, "objective.views.a")
