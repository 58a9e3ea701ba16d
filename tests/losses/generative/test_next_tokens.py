"""Causal language modelling: the mean over tokens by hand, on either padding side, in any chunks."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.generative.next_tokens import NextTokens
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.text.tokens import tokenize
from inbatch.views import Views

TEXTS = ["a first text", "x", "another one that is longer"]


def batch_of(encoder: Encoder):
    tokens = tokenize(encoder.tokenizer, TEXTS)
    return Views(tokens, tokens)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_a_loop_over_tokens(kind, side):
    encoder = Encoder(TinyRandom(kind, padding_side=side), pooling="last").eval()
    weight = encoder.backbone.network.get_input_embeddings().weight
    total, count = 0.0, 0
    for text in TEXTS:
        tokens = tokenize(encoder.tokenizer, [text])
        logits = encoder.backbone(tokens).last[0] @ weight.T
        for place, token in enumerate(tokens.input_ids[0].tolist()[1:]):
            total -= logits[place].log_softmax(0)[token]
            count += 1
    for budget in (None, 20):
        module = EmbeddingModule(encoder, NextTokens(), lambda groups: torch.optim.SGD(groups), chunk_tokens=budget)
        loss = module.training_step(batch_of(encoder), 0)
        torch.testing.assert_close(loss, total / count, rtol=1e-5, atol=1e-6)


def test_what_does_not_predict_is_refused():
    for backbone in (TinyRandom("bert"), TinyRandom("llama", bidirectional=True), TinyRandom("llama", bidirectional=1)):
        with pytest.raises(UsageError, match="expects a causal decoder"):
            NextTokens().attach(Encoder(backbone))
    with pytest.raises(UsageError, match="has learned tokens"):
        NextTokens().attach(Encoder(TinyRandom("llama", learned_tokens=2), pooling="last"))
    scaled = TinyRandom("llama")
    scaled.config.final_logit_softcapping = 30.0
    with pytest.raises(UsageError, match="scales its logits"):
        NextTokens().attach(Encoder(scaled, pooling="last"))
    untied = TinyRandom("llama")
    untied.config.tie_word_embeddings = False
    with pytest.raises(UsageError, match="a decoder with tied embeddings"):
        NextTokens().attach(Encoder(untied))
