"""A frozen network is asked once a step and batch, and its answers are forgotten after the step."""

import gc
import weakref

import pytest
import torch

from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.dclr import DCLR
from inbatch.losses.contrastive.gaussian_decay import GaussianDecay
from inbatch.losses.contrastive.guided import Guided
from inbatch.losses.side_networks import embed_frozen, evaluated_once
from inbatch.views import TokenBatch, Views


class Counting(torch.nn.Module):
    """A frozen network of texts that are one number each."""

    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Parameter(torch.randn(30, 8, generator=torch.Generator().manual_seed(1)))
        self.calls = 0
        self.made = []

    def forward(self, tokens):
        self.calls += 1
        found = self.rows[tokens.input_ids[:, 0]]
        self.made.append(weakref.ref(found))
        return found


def batch(negatives=1, rows=5):
    numbers = torch.arange(rows)[:, None]
    tokens = [TokenBatch(numbers + 10 * role, torch.ones(rows, 1).long()) for role in range(2 + negatives)]
    z = [torch.randn(rows, 8, generator=torch.Generator().manual_seed(role)) for role in range(2 + negatives)]
    return Views(z[0], z[1], tuple(z[2:])), Views(tokens[0], tokens[1], tuple(tokens[2:]))


def test_prefixes_ask_a_guide_once_a_view():
    guide, dims = Counting(), [1, 2, 3, 4, 8]
    z, tokens = batch(negatives=0)
    together = Matryoshka(Guided(guide, temperature=0.1), dims)
    found = together(z, tokens, None).loss
    assert guide.calls == 2
    apart = [Guided(guide, temperature=0.1)(z.map(lambda v: v[:, :d]), tokens, None).loss for d in dims]  # noqa: B023
    assert torch.equal(found, torch.stack(apart).sum())
    guide.calls = 0
    together(z, tokens, None)  # another step asks anew: the network, or the texts in the same memory, may have changed
    assert guide.calls == 2


def test_terms_that_share_a_network_ask_it_once():
    reference = Counting()
    z, tokens = batch()
    terms = {
        "guided": Guided(reference),
        "noise": DCLR(reference, noise_ratio=0.0),
        "decay": GaussianDecay(reference),
        "pairs": Guided(reference),
    }
    method = WeightedSum(terms, views={"pairs": ["anchor", "negative_1"]})
    output = method(z, tokens, None)
    assert reference.calls == 3
    assert torch.equal(output.logs["noise/loss"], terms["noise"](z, tokens, None).loss)


def test_nothing_is_kept_after_the_step():
    class Failing(Objective):
        def forward(self, z, tokens, encoder):
            embed_frozen(network, tokens.anchor)
            raise RuntimeError("in the middle of a step")

    network = Counting()
    z, tokens = batch()
    Matryoshka(DCLR(network, noise_ratio=0.0), [4, 8])(z, tokens, None)
    with pytest.raises(RuntimeError):
        Failing()(z, tokens, None)
    gc.collect()
    assert len(network.made) == 4
    assert not any(made() is not None for made in network.made)


def test_by_identity_of_the_tokens_and_only_inside_of_a_step():
    network = Counting()
    _, tokens = batch()
    embed_frozen(network, tokens.anchor)
    embed_frozen(network, tokens.anchor)
    assert network.calls == 2
    with evaluated_once():
        first = embed_frozen(network, tokens.anchor, budget=2)
        with evaluated_once():
            assert embed_frozen(network, tokens.anchor, budget=2) is first
        assert embed_frozen(network, tokens.anchor) is first
        assert torch.equal(embed_frozen(network, tokens.positive), network.rows[10:15])
    assert not first.requires_grad


def test_what_an_objective_returns_is_what_its_forward_returns():
    class Plain(Objective):
        def forward(self, z, tokens, encoder):
            return LossOutput(z.anchor.sum(), {"seen": 1.0})

    z, tokens = batch()
    assert Plain()(z, tokens, encoder=None).logs == {"seen": 1.0}
