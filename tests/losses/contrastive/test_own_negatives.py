"""Hard negatives of the row alone: cross entropy by hand, duplicates left out, nothing of the other rows."""

from __future__ import annotations

import pytest
import torch
from contract import contract
from torch.nn.functional import cross_entropy, normalize

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.views import Views


def embeddings(rows=5, negatives=3, dtype=torch.float64):
    torch.manual_seed(0)
    views = [torch.randn(rows, 8, dtype=dtype, requires_grad=True) for _ in range(2 + negatives)]
    return views, Views(views[0], views[1], tuple(views[2:]))


def by_hand(views, temperature=0.05):
    anchor, *others = (normalize(view, dim=-1) for view in views)
    logits = torch.stack([(anchor * other).sum(1) for other in others], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(anchor), dtype=torch.int64))


@pytest.mark.parametrize("negatives", [1, 3])
def test_equals_cross_entropy_of_each_row(negatives):
    views, z = embeddings(negatives=negatives)
    output = OwnNegatives()(z, z, None)  # type: ignore[arg-type]
    torch.testing.assert_close(output.loss, by_hand(views))
    found = torch.autograd.grad(output.loss, views)
    for one, other in zip(found, torch.autograd.grad(by_hand(views), views)):
        torch.testing.assert_close(one, other)


def test_another_row_changes_nothing():
    views, z = embeddings()
    gradient = torch.autograd.grad(OwnNegatives()(z, z, None).loss, views[0])[0]  # type: ignore[arg-type]
    fewer = Views(*(view[:3] for view in views[:2]), tuple(view[:3] for view in views[2:]))
    alone = torch.autograd.grad(OwnNegatives()(fewer, fewer, None).loss, views[0])[0]  # type: ignore[arg-type]
    torch.testing.assert_close(alone[:3] * 3, gradient[:3] * 5)


def test_duplicates_of_anchor_or_positive_are_left_out_and_a_row_without_negatives_is_0():
    views, z = embeddings(rows=2, negatives=2)
    ids = Views(torch.tensor([1, 5]), torch.tensor([2, 6]), (torch.tensor([1, 5]), torch.tensor([3, 6])))
    z = Views(z.anchor, z.positive, z.negatives, ids=ids)
    output = OwnNegatives()(z, z, None)  # type: ignore[arg-type]
    kept = [views[0][:1], views[1][:1], views[3][:1]]
    torch.testing.assert_close(output.loss, by_hand(kept) / 2)
    output.loss.backward()
    assert all(view.grad.isfinite().all() for view in views if view.grad is not None)
    assert views[0].grad[1].eq(0).all()
    assert output.logs["margin"].isfinite()


def test_refusals():
    for temperature in (0.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite temperature > 0"):
            OwnNegatives(temperature)
    with pytest.raises(UsageError, match="a hard negative in every row"):
        OwnNegatives().check(BatchFacts(4, 0, False))
    with pytest.raises(UsageError, match="read as scores"):
        OwnNegatives().check(BatchFacts(4, 1, True))


TestContract = contract(lambda: OwnNegatives(0.1), dense=lambda z: by_hand(list(z), 0.1))
