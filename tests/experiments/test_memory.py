"""The probes agree with what can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from inbatch.experiments.memory import activation_bytes, state_bytes
from inbatch.models.backbones import TinyRandom
from inbatch.models.encoder import Encoder


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (torch.optim.AdamW, 8),
        (lambda p: torch.optim.SGD(p, lr=0.1), 0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 4),
    ],
)
def test_state_of_an_optimizer(make, expected: float):
    assert state_bytes(make) == expected


def test_activations_grow_with_layers_and_are_what_autograd_keeps():
    shallow, deep = (Encoder(TinyRandom(num_layers=n, dropout=0.0)) for n in (1, 3))
    (_, one), (_, three) = activation_bytes(shallow, 16), activation_bytes(deep, 16)
    # At least the inputs of the six products of a layer: 3·h for attention's, h and h and 2·h for the rest; h = 32, float32.
    assert (three - one) / 2 >= 4 * 32 * 5
    assert (three - one) / 2 <= 4 * 32 * 60
    assert 0 < one < three


def test_frozen_layers_keep_less_and_mixed_precision_keeps_copies_of_weights():
    encoder, frozen = Encoder(TinyRandom()), Encoder(TinyRandom(frozen=True))
    assert activation_bytes(frozen, 16)[1] < activation_bytes(encoder, 16)[1]
    fixed, _ = activation_bytes(encoder, 16)
    mixed, _ = activation_bytes(encoder, 16, torch.bfloat16)
    assert mixed > fixed


@pytest.mark.parametrize("pooling", ["mean", "first_last", "mask", "last"])
def test_probe_leaves_no_trace(pooling: str):
    encoder = Encoder(TinyRandom(dropout=0.1), pooling=pooling)
    before = torch.get_rng_state()
    assert activation_bytes(encoder, 16)[1] > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.training
    assert all(p.grad is None for p in encoder.parameters())
