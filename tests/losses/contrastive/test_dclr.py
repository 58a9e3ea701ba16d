"""DCLR: noise that climbs, and false negatives that a second model finds."""

import pytest
import torch
from contract import FROZEN, Table, contract
from torch.nn.functional import cross_entropy, normalize

from inbatch.errors import UsageError
from inbatch.losses.contrastive.dclr import DCLR, debiased_contrast, refine
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize
from inbatch.views import Views


def unit(b, d, seed):
    return normalize(torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_value_and_gradient_equal_the_dense_form():
    z = Views(*(unit(7, 5, s).requires_grad_() for s in (0, 1)), (unit(7, 5, 2).requires_grad_(),))
    held, noise = Views(unit(7, 4, 3), unit(7, 4, 4), (unit(7, 4, 5),)), unit(6, 5, 6)
    keys, guides = torch.cat([z.positive, z.negatives[0], noise]), torch.cat([held.positive, held.negatives[0]])
    drop = torch.cat([held.anchor @ guides.T > 0.3, torch.zeros(7, 6, dtype=torch.bool)], 1)
    assert drop.any()
    drop[torch.arange(7), torch.arange(7)] = False
    theirs = cross_entropy((20 * z.anchor @ keys.T).masked_fill(drop, -torch.inf), torch.arange(7))
    mine = debiased_contrast(z, held, noise, 0.3, 20.0)
    assert torch.allclose(mine, theirs)
    for found, wanted in zip(*(torch.autograd.grad(x, list(z)) for x in (mine, theirs))):
        assert torch.allclose(found, wanted)


def test_noise_climbs_the_sum_and_moves_by_the_step():
    anchor, noise = unit(8, 5, 0), torch.randn(6, 5, dtype=torch.float64)

    def height(x):
        return (20 * anchor @ normalize(x, dim=-1).T).logsumexp(1).sum()

    moved = refine(noise, anchor, 20.0, steps=3, step_size=1e-3)
    assert height(moved) > height(noise)
    once = refine(noise, anchor, 20.0, steps=1, step_size=1e-3)
    assert torch.allclose((once - noise).norm(dim=1), torch.full((6,), 1e-3, dtype=torch.float64))
    assert not moved.requires_grad
    assert torch.equal(refine(noise, anchor, 20.0, steps=0, step_size=1.0), noise)


def test_a_step_with_and_without_noise():
    encoder = Encoder(TinyRandom(dropout=0.0), pooling="cls", normalize=False)
    reference = Encoder(TinyRandom(seed=4)).eval()
    tokens = Views(*(tokenize(encoder.tokenizer, [f"{role} {i}" for i in range(5)]) for role in ("who", "what")))
    z = tokens.map(encoder)
    losses = []
    for ratio in (0.0, 2.0):
        objective = DCLR(reference, threshold=2.0, noise_ratio=ratio, projector=torch.nn.Linear(32, 32))
        objective.projector.load_state_dict({"weight": torch.eye(32), "bias": torch.zeros(32)})
        objective.attach(encoder)
        torch.manual_seed(0)
        losses.append(objective(z, tokens, encoder).loss)
    plain = normalize(z.anchor, dim=-1) @ normalize(z.positive, dim=-1).T * 20
    assert torch.allclose(losses[0], cross_entropy(plain, torch.arange(5)), rtol=1e-4)
    assert losses[1] > losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "a finite temperature > 0; got 0"),
        ({"noise_temperature": 0.0}, "a finite noise_temperature > 0; got 0.0"),
        ({"noise_steps": -1}, "noise_steps >= 0"),
        ({"noise_ratio": -1.0}, "noise_ratio >= 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        DCLR(torch.nn.Identity(), **options)


def test_a_reference_of_other_tokens_is_refused():
    with pytest.raises(UsageError, match="expected objective.reference to read the encoder's tokens"):
        DCLR(Encoder(TinyRandom("roberta"))).attach(Encoder(TinyRandom("bert")))


TestContract = contract(
    lambda: DCLR(Table(9), threshold=0.3, noise_ratio=0.0, temperature=0.1),
    settings={"reference": FROZEN},
)
TestNoise = contract(lambda: DCLR(Table(9), threshold=0.3, noise_ratio=0.5), checks=("memory",))
