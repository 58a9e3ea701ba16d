"""Every objective on several ranks is that objective on one: the mean loss, and the gradient of what all ranks share."""

import dataclasses

import pytest
import torch
from ranks import on_ranks

from inbatch.losses.base import mean_over_ranks
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
from inbatch.views import TokenBatch, Views

COUNTS = {2: [4, 3], 4: [2, 2, 2, 2]}


class Table(torch.nn.Module):
    """An encoder of texts that are one number each, with which it looks up a row."""

    def __init__(self, seed, width=6):
        super().__init__()
        rows = torch.randn(64, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.rows = torch.nn.Parameter(rows)
        self.correction, self.dim, self.tokenizer = None, width, Words()

    def forward(self, tokens):
        return self.rows[tokens.input_ids[:, 0]]


class Words:
    def get_vocab(self):
        return {"a": 0}

    def get_added_vocab(self):
        return {}


MADE = {
    "hinge": lambda: EnergyHinge(0.4),
    "sum": lambda: WeightedSum({"contrast": InfoNCE(0.1), "hinge": EnergyHinge(0.4)}, {"hinge": 10.0}),
    "decayed": lambda: GaussianDecay(Table(9), sigma=3.0, temperature=0.1),
    "guided": lambda: Guided(Table(9), temperature=0.1),
    "dclr": lambda: DCLR(Table(9), threshold=0.3, noise_ratio=0.0, temperature=0.1),
    "ranking": lambda: CoSENT(),
    "angle": lambda: Angle(),
    "prefixes": lambda: Matryoshka(InfoNCE(0.1), [2, 6]),
    "scored pairs": lambda: InfoNCE(0.1, positive_score=0.5),
    "queue": lambda: MomentumQueue(9, 0.5, 0.1),
    "own negatives": lambda: OwnNegatives(0.1),
}
SCORED = {"ranking", "angle", "scored pairs"}


def step(rank, counts, name):
    """One rank's share of two steps; the loss and gradient of the second."""
    live = Table(1)
    objective = MADE[name]()
    objective.attach(live)
    first = sum(counts[:rank])
    rows = torch.arange(first, first + counts[rank])
    tokens = Views(*(TokenBatch((rows + 10 * role)[:, None], torch.ones(len(rows), 1).long()) for role in range(2)),
                   (TokenBatch((rows + 20)[:, None], torch.ones(len(rows), 1).long()),))  # fmt: skip
    score = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.2, 0.7, 0.5, 0.3])[rows] if name in SCORED else None
    for _ in range(2):
        live.zero_grad()
        z = dataclasses.replace(tokens.map(live), score=score)
        loss = objective(z, tokens, live).loss
        loss.backward()
    return loss.detach(), live.rows.grad.clone()


@pytest.mark.parametrize("ranks", COUNTS)
@pytest.mark.parametrize("name", MADE)
def test_equals_one_process(name, ranks):
    counts = COUNTS[ranks]
    truth, expected = step(0, [sum(counts)], name)
    results = on_ranks(ranks, step, counts, name)
    assert abs(sum(loss for loss, _ in results) / ranks - truth) < 1e-6 * truth
    averaged = sum(gradient for _, gradient in results) / ranks  # as DDP does
    assert expected.abs().max() > 0
    assert (averaged - expected).abs().max() <= 1e-6 * expected.abs().max()


def counted(rank):
    return mean_over_ranks(torch.tensor([6.0, 2.0][rank]), torch.tensor([3, 1][rank]))


def test_a_mean_over_all_ranks_counts_what_each_has():
    assert sum(on_ranks(2, counted)) / 2 == pytest.approx(8 / 4)
