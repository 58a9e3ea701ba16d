"""Frozen: nothing of a network is trained, whatever stands beside it."""

from __future__ import annotations

import pytest

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import TinyRandom


def test_frozen_trains_nothing_and_keeps_dropout():
    backbone = TinyRandom(frozen=True)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert backbone.training


def test_frozen_and_lora_refuse_each_other():
    with pytest.raises(UsageError, match="frozen or lora"):
        TinyRandom(frozen=True, lora=Lora())


def test_what_is_trained_beside_a_frozen_network_stays_trainable():
    backbone = TinyRandom("llama", frozen=True, learned_tokens=2)
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == {"learned_tokens.table"}
