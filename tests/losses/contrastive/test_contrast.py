"""The arithmetic of InfoNCE, each option against one cross entropy over a matrix."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from inbatch.losses.contrastive.contrast import contrast
from inbatch.views import Views


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_several_hard_negatives_are_candidates_of_all_rows_and_weighted_on_their_own():
    a, p, n1, n2 = (unit(5, 4, seed=s) for s in range(4))
    logits = 10 * torch.cat([a @ p.T, a @ n1.T + 0.7 / 10 * torch.eye(5), a @ n2.T + 0.7 / 10 * torch.eye(5)], 1)
    expected = cross_entropy(logits, torch.arange(5))
    assert torch.allclose(contrast(a, p, [n1, n2], scale=10.0, hard_negative_weight=0.7), expected)


def test_symmetric_is_the_mean_of_both_directions():
    a, p = unit(5, 4), unit(5, 4, seed=1)
    logits, target = 10 * a @ p.T, torch.arange(5)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    assert torch.allclose(contrast(a, p, scale=10.0, symmetric=True), expected)


def test_margin_is_taken_from_the_positive():
    a, p = unit(5, 4), unit(5, 4, seed=1)
    expected = cross_entropy(10 * (a @ p.T - 0.2 * torch.eye(5)), torch.arange(5))
    assert torch.allclose(contrast(a, p, scale=10.0, margin=0.2), expected)


def test_candidates_far_above_the_positive_are_dropped():
    a, p = unit(6, 4), unit(6, 4, seed=1)
    cos = a @ p.T
    drop = cos > cos.diagonal()[:, None] + 0.1
    assert drop.any()
    expected = cross_entropy((10 * cos).masked_fill(drop, -torch.inf), torch.arange(6))
    assert torch.allclose(contrast(a, p, scale=10.0, false_negative_margin=0.1), expected)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_equal_texts_are_no_negatives(weight):
    """Rows 0 and 1 share the anchor, 2 and 3 the positive; row 4's anchor is row 5's positive; row 0's negative is row 6's positive."""
    a, p, n = (unit(8, 4, seed=s) for s in range(3))
    anchors, positives, negatives = list("AACDEFGH"), list("abccdEyh"), list("ystuvwxz")
    number = {text: i for i, text in enumerate(sorted({*anchors, *positives, *negatives}))}
    ids = Views(*(torch.tensor([number[t] for t in column]) for column in (anchors, positives)),
                negatives=(torch.tensor([number[t] for t in negatives]),))  # fmt: skip
    logits = 10 * torch.cat([a @ p.T, a @ n.T], 1)
    for i in range(8):
        mine = {anchors[i], positives[i]}
        theirs = {negatives[i]} if weight else set()
        for j in range(8):
            if i != j and (mine | theirs) & {positives[j], anchors[j]}:
                logits[i, j] = -torch.inf
            if (i != j or not weight) and (mine | theirs) & {negatives[j]}:
                logits[i, 8 + j] = -torch.inf
        logits[i, 8 + i] += weight
    found = contrast(a, p, [n], scale=10.0, ids=ids, hard_negative_weight=weight)
    assert torch.allclose(found, cross_entropy(logits, torch.arange(8)))


@pytest.mark.parametrize("rule", ["equal text", "margin"])
def test_an_own_hard_negative_obeys_the_rules_with_and_without_a_weight(rule):
    """A mined negative that is the positive itself, or far above it, is no negative of its row, whatever its weight."""
    a, p = unit(5, 4), unit(5, 4, seed=1)
    n = torch.cat([p[:1] if rule == "equal text" else a[:1], unit(4, 4, seed=2)])
    others = torch.arange(10, 14)
    texts = Views(torch.arange(5), torch.arange(5, 10), (torch.cat([torch.tensor([5]), others]),))
    options = {"ids": texts} if rule == "equal text" else {"false_negative_margin": 0.1}
    plain = contrast(a, p, [n], scale=10.0, **options)
    assert torch.allclose(contrast(a, p, [n], scale=10.0, hard_negative_weight=1e-9, **options), plain, atol=1e-8)


def test_further_candidates_are_those_of_all_rows_and_obey_the_texts():
    a, p, queue = unit(4, 3), unit(4, 3, seed=1), unit(6, 3, seed=2)
    logits = 10 * torch.cat([a @ p.T, a @ queue.T], 1)
    assert torch.allclose(contrast(a, p, scale=10.0, further=queue), cross_entropy(logits, torch.arange(4)))
    ids = Views(torch.arange(4), torch.arange(10, 14))
    held = torch.tensor([2, 50, 51, 13, 52, 53])  # the third row's anchor, the fourth row's positive
    logits[2, 4], logits[3, 7] = -torch.inf, -torch.inf
    found = contrast(a, p, scale=10.0, ids=ids, further=queue, further_ids=held)
    assert torch.allclose(found, cross_entropy(logits, torch.arange(4)))


def test_a_weight_scales_a_rows_loss_and_not_the_mean():
    a, p, w = unit(4, 3), unit(4, 3, seed=1), torch.tensor([0.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    each = cross_entropy(10 * a @ p.T, torch.arange(4), reduction="none")
    assert torch.allclose(contrast(a, p, scale=10.0, weight=w), (w * each).mean())


def test_own_hard_negatives_may_have_a_number_each():
    a, p, n1, n2 = (unit(4, 3, seed=s) for s in range(4))
    added = torch.tensor([[0.1, -1.0], [0.0, 2.0], [-3.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    first, second = (10 * a @ n.T + added[:, column].diag() for column, n in enumerate((n1, n2)))
    expected = cross_entropy(torch.cat([10 * a @ p.T, first, second], 1), torch.arange(4))
    assert torch.allclose(contrast(a, p, [n1, n2], scale=10.0, hard_negative_weight=added), expected)
