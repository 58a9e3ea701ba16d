"""Objectives depend on the directions of embeddings alone, and embeddings of exactly zero, which have none, spoil no gradient."""

from __future__ import annotations

import pytest
import torch

from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.dclr import DCLR
from inbatch.losses.contrastive.gaussian_decay import GaussianDecay
from inbatch.losses.contrastive.guided import Guided
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.losses.graded.angle import Angle
from inbatch.losses.graded.cosent import CoSENT
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views


class Lengths(torch.nn.Module):
    """Stands for a reference: embeds tokens by their numbers, at lengths that differ by factors of a thousand or not at all."""

    def __init__(self, unequal: bool) -> None:
        super().__init__()
        self.unequal = unequal

    def forward(self, tokens: TokenBatch) -> torch.Tensor:
        z = torch.sin(tokens.input_ids[:, [1, 5, -2]].double() ** 1.5).float()
        return z * 10.0 ** (torch.arange(len(z)) % 4 - 2)[:, None] if self.unequal else z


OBJECTIVES = {
    "infonce": lambda _: InfoNCE(),
    "options": lambda _: InfoNCE(
        margin=0.1, hard_negative_weight=0.3, false_negative_margin=0.05, learn_temperature=True
    ),
    "symmetric": lambda _: InfoNCE(symmetric=True),
    "scored": lambda _: InfoNCE(positive_score=0.5),
    "own": lambda _: OwnNegatives(),
    "hinge": lambda _: EnergyHinge(0.5),
    "guided": lambda unequal: Guided(Lengths(unequal), margin=0.05),
    "dclr": lambda unequal: DCLR(Lengths(unequal), threshold=0.5),
    "decay": lambda unequal: GaussianDecay(Lengths(unequal)),
    "queue": lambda _: MomentumQueue(4),
    "cosent": lambda _: CoSENT(),
    "angle": lambda _: Angle(),
    "matryoshka": lambda _: Matryoshka(InfoNCE(), [32]),
    "sum": lambda _: WeightedSum({"a": InfoNCE(), "b": EnergyHinge()}, {"b": 3.0}),
}


@pytest.fixture(scope="module")
def live():
    return Encoder(TinyRandom("bert", num_layers=1))


def batch(name, live):
    """Return five rows of embeddings, as leaves, and of tokens."""
    generator = torch.Generator().manual_seed(1)
    texts = [tokenize(live.tokenizer, [f"{role} of row {i}" for i in range(5)]) for role in ("a", "b", "c")]
    z = [torch.randn(5, 32, generator=generator) for _ in texts]
    scored = torch.tensor([0.9, 0.1, 0.6, 0.2, 0.8]) if name in ("scored", "cosent", "angle") else None
    return [Views(*rows[:2], (rows[2],), score=scored) for rows in (z, texts)]


def loss_of(objective, z, tokens, live):
    if isinstance(objective, MomentumQueue):
        objective.attach(live)
    torch.manual_seed(0)  # of DCLR's noise
    return objective(z, tokens, live).loss


@pytest.mark.parametrize("name", OBJECTIVES)
def test_lengths_change_no_loss(name, live):
    z, tokens = batch(name, live)
    before = loss_of(OBJECTIVES[name](False), z, tokens, live)
    longer = z.map(lambda view: view * 10.0 ** (torch.arange(5) - 2)[:, None])
    after = loss_of(OBJECTIVES[name](True), longer, tokens, live)
    assert float(before.detach()) > 0
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["anchor", "positive", "negative", "all of a row", "all"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_zeros_spoil_no_gradient(name, which, live):
    z, tokens = batch(name, live)
    anchor, positive, negative = z
    rows = slice(None) if which == "all" else slice(1, 2)
    for view, named in ((anchor, "anchor"), (positive, "positive"), (negative, "negative")):
        if which in (named, "all of a row", "all"):
            view[rows] = 0
    leaves = z.map(lambda view: view.requires_grad_())
    loss = loss_of(OBJECTIVES[name](False), leaves, tokens, live)
    assert loss.isfinite()
    loss.backward()
    for view in leaves:
        if view.grad is not None:
            assert view.grad.abs().max() < 100  # at cosines that differ by less than 1 over a temperature of 0.05
            if which == "all":
                assert not view.grad.any()
