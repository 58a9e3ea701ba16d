"""A decoder without its causal mask equals dense attention, and what cannot be uncovered is refused."""

from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.backbones.bidirectional import uncover
from inbatch.models.backbones.positions import positions
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize


def attended(backbone, tokens):
    """Return the attention weights of every layer, (b, heads, L, L)."""
    output = backbone.network(tokens.input_ids, attention_mask=tokens.attention_mask, output_attentions=True)
    return output.attentions


def test_every_token_attends_to_every_token_and_not_to_padding(texts):
    backbone = TinyRandom("llama", attention="eager", bidirectional=True).eval()
    tokens = tokenize(backbone.tokenizer, texts, 12)
    seen = (tokens.attention_mask[:, None, None, :] * tokens.attention_mask[:, None, :, None]).bool()
    for weights in attended(backbone, tokens):
        assert weights[seen.expand_as(weights)].gt(0).all()
        assert weights.masked_fill(tokens.attention_mask[:, None, None, :].bool(), 0).eq(0).all()
    causal = TinyRandom("llama", attention="eager").eval()
    assert not causal.bidirectional
    assert attended(causal, tokens)[0][0, 0].triu(1).eq(0).all()


def test_sdpa_equals_eager_with_and_without_padding(texts):
    eager, sdpa = (TinyRandom("llama", attention=a, bidirectional=True).eval() for a in ("eager", "sdpa"))
    for batch in (texts, texts[:1]):
        tokens = tokenize(eager.tokenizer, batch, 24)
        real = tokens.attention_mask.bool()
        torch.testing.assert_close(sdpa(tokens).last[real], eager(tokens).last[real], atol=3e-6, rtol=0)


def test_the_mode_is_kept_and_a_second_time_does_nothing():
    backbone = TinyRandom("llama", bidirectional=True)
    assert backbone.training
    assert backbone.bidirectional
    uncover(backbone.network)


def test_an_encoder_is_bidirectional_already():
    with pytest.raises(UsageError, match="already"):
        TinyRandom("bert", bidirectional=True)


def test_a_decoder_that_keeps_its_mask_is_refused(monkeypatch):
    network = TinyRandom("llama").network
    monkeypatch.setattr("inbatch.models.backbones.bidirectional.sees_ahead", lambda network: [False, False])
    with pytest.raises(UsageError, match="keeps it"):
        uncover(network)


def test_flash_attention_is_refused():
    network = TinyRandom("llama").network
    network.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(UsageError, match="sdpa"):
        uncover(network)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_in_the_last_layers_alone_a_changed_last_token_reaches_the_first_position(attention, side):
    def states(layers, text):
        backbone = TinyRandom(
            "llama", num_layers=3, attention=attention, bidirectional=layers, padding_side=side
        ).eval()
        tokens = tokenize(backbone.tokenizer, [text, "a longer text beside it"])
        found = backbone.network(
            tokens.input_ids, attention_mask=tokens.attention_mask, position_ids=positions(tokens.attention_mask, 0),
            output_hidden_states=True,
        ).hidden_states  # fmt: skip
        first = tokens.attention_mask[0].argmax()
        return torch.stack([layer[0, first] for layer in found])

    for layers, reached in ((False, []), (1, [3]), (2, [2, 3]), (True, [1, 2, 3])):
        one, other = states(layers, "text a"), states(layers, "text b")
        changed = [layer for layer in range(4) if not torch.equal(one[layer], other[layer])]
        assert changed == reached, layers


def test_an_export_keeps_the_layers_for_the_next_stage(tmp_path):
    Encoder(TinyRandom("llama", bidirectional=1)).eval().save_pretrained(tmp_path / "stage1")
    following = Pretrained(str(tmp_path / "stage1"))
    assert following.bidirectional == 1
    assert not following.causal


@pytest.mark.parametrize("layers", [0, 3, -1])
def test_a_number_of_layers_that_there_are_not_is_refused(layers):
    with pytest.raises(UsageError, match=r"a number of layers in \[1, 2\]"):
        TinyRandom("llama", bidirectional=layers)


def test_one_layer_and_the_last_token_are_no_change():
    with pytest.raises(UsageError, match="bidirectional: 1 is pooling `last` without"):
        Encoder(TinyRandom("llama", bidirectional=1), pooling="last")
