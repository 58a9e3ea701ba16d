"""Gradient checkpointing changes no gradient, and no more requires one than must."""

from __future__ import annotations

import pytest
import torch
from modules import gradients

from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.text.tokens import tokenize


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_gradient_checkpointing_changes_no_gradient(kind, lora, texts):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = TinyRandom(kind, lora=lora, dropout=0.0, gradient_checkpointing=checkpointing)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.data.fill_(0.01)
        found.append(gradients(backbone, tokenize(backbone.tokenizer, texts, 16)))
    plain, checkpointed = found
    assert plain
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_input_gradients_are_required_only_for_checkpointed_adapters(texts):
    def embedded_gradient(**options):
        backbone = TinyRandom(**options)
        seen = []
        backbone.network.get_input_embeddings().register_forward_hook(lambda m, a, out: seen.append(out.requires_grad))
        backbone(tokenize(backbone.tokenizer, texts, 8))
        return seen[0]

    assert embedded_gradient(lora=Lora(), gradient_checkpointing=True)
    assert not embedded_gradient(lora=Lora())
    assert not embedded_gradient(frozen=True)
