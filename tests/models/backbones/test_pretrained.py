"""Backbones: modes, what trains, positions under either padding side, memory options that change no number."""

from __future__ import annotations

import pytest
import torch
from modules import gradients

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.attention import choose_attention
from inbatch.models.backbones.pretrained import Backbone, Pretrained, TinyRandom
from inbatch.text.tokens import tokenize

KINDS = ["bert", "roberta", "llama"]


def test_a_backbone_starts_in_training_mode(minilm):
    assert all(module.training for module in Pretrained(minilm, layers=1).modules())
    assert all(module.training for module in TinyRandom(lora=Lora()).modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_states_do_not_depend_on_the_padding_side(kind, attention, texts):
    left, right = (TinyRandom(kind, padding_side=side, attention=attention).eval() for side in ("left", "right"))
    a, b = tokenize(left.tokenizer, texts, 48), tokenize(right.tokenizer, texts, 48)
    assert a.attention_mask[0, 0] == 0
    one, other = left(a), right(b)
    for x, y in zip(one.last[a.attention_mask.bool()], other.last[b.attention_mask.bool()]):
        torch.testing.assert_close(x, y, atol=3e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_first_layer_is_the_output_of_the_first_layer(kind, texts):
    two, one = TinyRandom(kind, num_layers=2).eval(), TinyRandom(kind, num_layers=1).eval()
    one.network.load_state_dict(two.network.state_dict(), strict=False)
    tokens = tokenize(two.tokenizer, texts, 16)
    states = two(tokens, layer=1)
    assert two(tokens).other is None
    captured = []
    layers = two.network.layers if kind == "llama" else two.network.encoder.layer
    handle = layers[0].register_forward_hook(lambda module, args, output: captured.append(output))
    two(tokens)
    handle.remove()
    output = captured[0][0] if isinstance(captured[0], tuple) else captured[0]
    assert torch.equal(states.other, output)
    if kind != "llama":  # a decoder's last state has passed a norm
        assert torch.equal(states.other, one(tokens).last)


def caught(module, run):
    """What a module put out while ``run`` ran."""
    outputs = []
    handle = module.register_forward_hook(lambda module, args, output: outputs.append(output))
    run()
    handle.remove()
    return outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [("bert", None), ("bert", Prefix(3)), ("roberta", None), ("roberta", Prefix(3)), ("llama", None)],
)
def test_other_layers_are_what_embeddings_and_layers_put_out(kind, prefix, texts):
    backbone = TinyRandom(kind, num_layers=3, prefix=prefix).eval()
    tokens = tokenize(backbone.tokenizer, texts, 16)
    network = backbone.network
    embeddings = network.embed_tokens if kind == "llama" else network.embeddings
    layers = network.layers if kind == "llama" else network.encoder.layer
    for layer, module in ((0, embeddings), (1, layers[0]), (-2, layers[1])):
        found = backbone(tokens, layer=layer)
        assert torch.equal(found.other, caught(module, lambda: backbone(tokens))), layer
        assert torch.equal(found.last, backbone(tokens).last)


def test_every_parameter_gets_a_gradient(texts):
    backbone = TinyRandom(dropout=0.0)
    found = gradients(backbone, tokenize(backbone.tokenizer, texts, 16))
    assert found.keys() == {name for name, _ in backbone.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_positions_and_sizes(kind):
    backbone = TinyRandom(kind, hidden_size=16, max_length=40)
    assert (backbone.max_positions, backbone.hidden_size) == (40, 16)
    longest = tokenize(backbone.tokenizer, ["x" * 100], 40)
    assert longest.input_ids.shape[1] == 40
    assert backbone(longest).last.isfinite().all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes(dtype, minilm):
    assert TinyRandom(dtype=dtype).network.dtype == getattr(torch, dtype)
    assert Pretrained(minilm, layers=1, dtype=dtype).network.dtype == getattr(torch, dtype)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UsageError, match="int8"):
        TinyRandom(dtype="int8")  # type: ignore[arg-type]


def test_attention_that_runs_is_named(minilm):
    assert Pretrained(minilm, layers=1, attention="eager").attention == "eager"
    auto = Pretrained(minilm, layers=1)
    assert auto.attention == "sdpa"
    assert auto.attention_reason == choose_attention("auto", torch.float32)[1]


def test_auto_leaves_flash_where_the_network_does_not_know_it(minilm, monkeypatch):
    from inbatch.models.backbones import pretrained as backbones

    monkeypatch.setattr(backbones, "choose_attention", lambda attention, dtype: ("flash_attention_2", "could run"))
    monkeypatch.setattr("transformers.BertModel._supports_flash_attn", False)
    backbone = Pretrained(minilm, layers=1)
    assert (backbone.attention, backbone.attention_reason) == ("sdpa", "no flash: BertModel does not know it")


def test_any_network_and_tokenizer_make_a_backbone(texts):
    tiny = TinyRandom()
    backbone = Backbone(tiny.network, tiny.tokenizer, name="mine")
    assert backbone.attention_reason
    assert backbone(tokenize(backbone.tokenizer, texts, 8)).last.shape[:2] == (len(texts), 8)
