"""States put into or taken out of the stream equal a network composed by hand, and nothing of it stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inbatch.errors import UsageError
from inbatch.kernels import map_in_chunks
from inbatch.models.backbones.injection import injected
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.text.tokens import tokenize

SHIFT = torch.linspace(-1, 1, 32, dtype=torch.float64)


def by_hand(backbone, tokens, before=None, after=None):
    """BERT's layers one by one, with functions of the states before the second and after the first."""
    network = backbone.network
    mask = torch.zeros(len(tokens), 1, 1, tokens.input_ids.shape[1], dtype=torch.float64)
    mask = mask.masked_fill(tokens.attention_mask[:, None, None] == 0, torch.finfo(torch.float64).min)
    states = network.embeddings(input_ids=tokens.input_ids)
    for number, layer in enumerate(network.encoder.layer, 1):
        if number == 2 and before is not None:
            states = before(states)
        output = layer(states, mask)
        states = output[0] if isinstance(output, tuple) else output
        if number == 1 and after is not None:
            states = after(states)
    return states


@pytest.fixture
def backbone():
    return TinyRandom(num_layers=3, dtype="float64", attention="eager").eval()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("form", ["tensor", "function"])
def test_equals_a_network_composed_by_hand(backbone, texts, place, form):
    tokens = tokenize(backbone.tokenizer, texts, 20)
    own = tokens.attention_mask.bool()
    value = SHIFT if form == "tensor" else lambda states: states.flip(-1) * 2
    function = (lambda states: states + SHIFT) if form == "tensor" else value
    found = backbone(tokens, inject=[(2 if place == "before" else 1, place, value)]).last
    expected = by_hand(backbone, tokens, **{place: function})
    torch.testing.assert_close(found[own], expected[own], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found[own], backbone(tokens).last[own])


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "opt"])
def test_every_family_lets_states_be_read_and_replaced_by_themselves(kind, texts):
    backbone = TinyRandom(kind).eval()
    tokens = tokenize(backbone.tokenizer, texts, 20)
    seen: list[torch.Tensor] = []
    plain = backbone(tokens, reads=["layer:1", "layer:0"])
    looked = backbone(
        tokens, inject=[(1, "after", seen.append), (1, "before", seen.append), (-1, "before", seen.append)]
    )
    assert torch.equal(looked.last, plain.last)
    assert torch.equal(seen[0], plain.reads["layer:0"])
    assert torch.equal(seen[1], plain.reads["layer:1"])
    assert torch.equal(seen[2], plain.reads["layer:1"])
    zeroed = backbone(
        tokens, inject=[(1, "before", torch.zeros_like), (1, "after", lambda states: plain.reads["layer:1"])]
    )
    assert torch.equal(zeroed.last, plain.last)


def test_those_at_one_place_act_in_their_order(backbone, texts):
    tokens = tokenize(backbone.tokenizer, texts, 20)
    both = backbone(tokens, inject=[(-1, "after", SHIFT), (-1, "after", lambda states: 2 * states)]).last
    torch.testing.assert_close(both, 2 * (backbone(tokens).last + SHIFT))


def test_nothing_stays_even_where_a_function_fails(backbone, texts):
    tokens = tokenize(backbone.tokenizer, texts, 20)
    plain = backbone(tokens).last

    def fail(states):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        backbone(tokens, inject=[(1, "after", SHIFT), (2, "before", fail)])
    assert torch.equal(backbone(tokens).last, plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.network.encoder.layer)


def test_gradients_reach_what_is_injected_in_chunks_too(backbone, texts):
    tokens = tokenize(backbone.tokenizer, texts, 20)
    shift = nn.Parameter(SHIFT.clone())

    def embed(chunk):
        states = backbone(chunk, inject=[(2, "before", shift)]).last
        return (states * chunk.attention_mask[..., None]).square().sum((1, 2))

    found = []
    for budget in (None, 40):
        shift.grad = None
        map_in_chunks(embed, tokens, budget=budget).pow(2).sum().backward()
        found.append(shift.grad)
    assert found[0].abs().min() > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_refusals(backbone, texts):
    tokens = tokenize(backbone.tokenizer, texts, 20)
    for number in (0, 4, -4):
        with pytest.raises(
            UsageError, match=rf"inject expects a layer in \[1, 3\], or negative from the last; got {number}"
        ):
            backbone(tokens, inject=[(number, "after", SHIFT)])
    with pytest.raises(UsageError, match="a place before or after a layer; got 'in'"):
        backbone(tokens, inject=[(1, "in", SHIFT)])
    with pytest.raises(UsageError, match="Set backbone.gradient_checkpointing to false"):
        TinyRandom(gradient_checkpointing=True)(tokens, inject=[(1, "after", SHIFT)])
    backbone.network.encoder.layer = nn.Sequential(*backbone.network.encoder.layer)
    with (
        pytest.raises(UsageError, match="layers stand in one list; BertModel has none"),
        injected(backbone.network, [(1, "after", SHIFT)]),
    ):
        pass
