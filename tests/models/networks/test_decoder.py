"""The frozen decoder: an exported language model is one again, and padding changes nothing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import AutoConfig

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.huggingface import class_for
from inbatch.models.networks.decoder import PretrainedDecoder, TinyDecoder
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "qwen3"])
def test_the_export_of_a_language_model_is_a_decoder(kind, tmp_path):
    encoder = Encoder(TinyRandom(kind), pooling="last").eval()
    encoder.save_pretrained(tmp_path / "export")
    decoder = PretrainedDecoder(str(tmp_path / "export"))
    tokens = tokenize(encoder.tokenizer, ["some text"])
    weight = encoder.backbone.network.get_input_embeddings().weight
    expected = encoder.backbone(tokens).last @ weight.T
    embedded = weight[tokens.input_ids]
    rest = TokenBatch(tokens.input_ids[:, 2:], tokens.attention_mask[:, 2:])
    torch.testing.assert_close(decoder(embedded[:, :2], rest), expected, atol=1e-5, rtol=1e-5)


def test_padding_on_the_right_changes_nothing():
    decoder = TinyDecoder()
    states = torch.randn(2, 3, 32)
    ids = torch.tensor([[40, 41, 42, 43], [50, 51, 0, 0]])
    batch = TokenBatch(ids, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
    alone = decoder(states[1:], TokenBatch(ids[1:, :2], torch.ones(1, 2, dtype=torch.int64)))
    torch.testing.assert_close(decoder(states, batch)[1:, :5], alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_recomputed_layers_change_no_gradient_and_drop_nothing(kind, tmp_path):
    Encoder(TinyRandom(kind), pooling="last").save_pretrained(tmp_path / "export")
    states = torch.randn(2, 3, 32, requires_grad=True)
    tokens = TokenBatch(torch.tensor([[40, 41, 42], [50, 51, 52]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    gradients, calls = [], []
    for recomputed in (False, True):
        decoder = PretrainedDecoder(str(tmp_path / "export"), gradient_checkpointing=recomputed).train()
        names = ("mlp.act_fn", "mlp.act", "fc1")
        inner = next(m for name, m in decoder.network.named_modules() if name.endswith(names))
        inner.register_forward_hook(partial(lambda which, *_: calls.append(which), recomputed))
        assert decoder.network.training is recomputed
        logits = decoder(states, tokens).log_softmax(-1)
        gradients += torch.autograd.grad(logits[..., 41].sum(), states)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)
    assert (calls.count(False), calls.count(True)) == (1, 2)


def test_an_encoder_is_no_decoder():
    with pytest.raises(UsageError, match="expected a causal language model"):
        class_for(AutoConfig.for_model("distilbert"), "causal_lm")
