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
