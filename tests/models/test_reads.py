"""Reads: what they are equals what the network computes, padding is 0 wherever it lies, and unknown ones are refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.reads import asks_attentions, asks_states, check_reads, cut, padded, picked
from inbatch.text.tokens import tokenize


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2"])
def test_reads_are_what_the_network_puts_out(kind, texts):
    backbone = TinyRandom(kind, num_layers=3).eval()
    names = ["layers", "layer:0", "layer:-1", "layer:2", "attentions:1", "attentions:-1", "tokens"]
    check_reads(names, "Mine", backbone)
    tokens = tokenize(backbone.tokenizer, texts, 20)
    found = backbone(tokens, reads=names)
    output = backbone.network(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        position_ids=backbone._positions(tokens),
        output_hidden_states=True,
        output_attentions=True,
    )
    assert list(found.reads) == names
    assert torch.equal(found.reads["layers"], torch.stack(output.hidden_states, 1))
    for name, expected in (("layer:0", 0), ("layer:-1", 3), ("layer:2", 2)):
        assert torch.equal(found.reads[name], output.hidden_states[expected])
    assert torch.equal(found.reads["attentions:1"], output.attentions[0])
    assert torch.equal(found.reads["attentions:-1"], output.attentions[2])
    assert torch.equal(found.reads["tokens"], found.last)


def test_nothing_is_kept_when_nothing_is_asked_for(texts, monkeypatch):
    backbone = TinyRandom().eval()
    asked = []
    forward = backbone.network.forward
    monkeypatch.setattr(backbone.network, "forward", lambda **given: asked.append(given) or forward(**given))
    tokens = tokenize(backbone.tokenizer, texts, 20)
    assert backbone(tokens).reads == {}
    assert backbone(tokens, reads=["tokens"]).reads.keys() == {"tokens"}
    for given in asked:
        assert given["output_hidden_states"] is False
        assert "output_attentions" not in given


def test_attention_maps_choose_eager_attention():
    backbone = TinyRandom()
    check_reads({"tokens", "layers"}, "Mine", backbone)
    assert backbone.attention == "sdpa"
    check_reads({"attentions:2"}, "Mine", backbone)
    assert (backbone.attention, backbone.attention_reason) == ("eager", "its maps are read by Mine")
    backbone(tokenize(backbone.tokenizer, ["a"], 5))
    assert backbone.attention == "eager", "not chosen again at each call"


@pytest.mark.parametrize(
    "name", ["layer", "layer:3", "layer:-4", "layer:x", "attentions:0", "attentions:3", "layers:1", "tokens:0", "words"]
)
def test_unknown_reads_are_refused(name):
    with pytest.raises(UsageError, match=rf"Mine expects reads of layers, layer:k with k in \[-3, 2\].*got '{name}'"):
        check_reads({name}, "Mine", TinyRandom(num_layers=2))


def test_states_at_learned_tokens_are_refused_where_there_are_none():
    check_reads({"states_at_learned"}, "Mine", TinyRandom("llama", learned_tokens=2))
    with pytest.raises(UsageError, match=r"Mine reads the states at learned tokens.* Set backbone.learned_tokens"):
        check_reads({"states_at_learned"}, "Mine", TinyRandom())


def test_attention_maps_behind_a_prefix_are_refused():
    check_reads({"layer:1"}, "Mine", TinyRandom(prefix=Prefix(2)))
    with pytest.raises(UsageError, match="Mine reads attentions:1, attention among a text's tokens; backbone.prefix"):
        check_reads({"attentions:1"}, "Mine", TinyRandom(prefix=Prefix(2)))


def test_what_a_network_must_return():
    assert not asks_states({"tokens", "attentions:1"})
    assert asks_states({"layers"})
    assert asks_states({"layer:-1"})
    assert asks_attentions({"attentions:1"})
    assert not asks_attentions({"tokens", "layers"})


def test_only_what_is_asked_for_is_picked():
    states = [torch.full((1, 2, 3), float(k)) for k in range(3)]
    output = SimpleNamespace(last_hidden_state=states[-1], hidden_states=states, attentions=None)
    found = picked(["layer:1"], output)
    assert list(found) == ["layer:1"]
    assert found["layer:1"] is states[1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["tokens", "layers", "attentions:1"])
def test_padding_is_zero_and_cutting_undoes_it(name, side):
    backbone = TinyRandom(padding_side=side)
    tokens = tokenize(backbone.tokenizer, ["long text", "x"], 20)
    length = tokens.input_ids.shape[1]
    shape = {"tokens": (2, length, 3), "layers": (2, 4, length, 3), "attentions:1": (2, 5, length, length)}[name]
    read = torch.rand(shape) + 1
    wide = padded(name, read, tokens, length + 6, side)
    assert wide.shape[-2] == length + 6
    assert wide.shape[-1] == (length + 6 if name == "attentions:1" else 3)
    assert int((wide != 0).sum()) == sum(
        n * (5 * n if name == "attentions:1" else shape[-1] * (4 if name == "layers" else 1))
        for n in tokens.lengths.tolist()
    )
    back = cut(name, wide, length, side)
    assert back.shape == read.shape
    own = back != 0
    assert torch.equal(back[own], read[own])
