"""Deep prefixes: a hand-written attention with keys and values in front gives the same states."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from inbatch.errors import MissingError, UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix, seeded
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize


def by_hand(backbone: TinyRandom, tokens) -> torch.Tensor:
    """The network's layers with attention written out, for BERT and RoBERTa in eval mode."""
    network, k = backbone.network, backbone.prefix.length
    first = 0 if backbone.first_position == 0 else backbone.first_position
    positions = (tokens.attention_mask.cumsum(1) - 1).clamp(min=0) + first + k
    hidden = network.embeddings(input_ids=tokens.input_ids, position_ids=positions)
    table = backbone.prefix_table.table.view(backbone.prefix_table.shape)
    seen = torch.cat([torch.ones(len(tokens), k), tokens.attention_mask], 1)[:, None, None].bool()
    for number, layer in enumerate(network.encoder.layer):
        attention = layer.attention.self
        heads = backbone.config.num_attention_heads

        def split(x, heads=heads):
            return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

        key, value = (table[:, 2 * number + i].transpose(0, 1).expand(len(tokens), -1, -1, -1) for i in (0, 1))
        q, own_k, own_v = (split(f(hidden)) for f in (attention.query, attention.key, attention.value))
        key, value = torch.cat([key, own_k], 2), torch.cat([value, own_v], 2)
        logits = q @ key.transpose(2, 3) / math.sqrt(q.shape[-1])
        context = logits.masked_fill(~seen, -torch.inf).softmax(-1) @ value
        mixed = layer.attention.output(context.transpose(1, 2).flatten(2), hidden)
        hidden = layer.output(layer.intermediate(mixed), mixed)
    return hidden


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_equals_attention_written_by_hand(kind, attention, texts):
    backbone = TinyRandom(kind, attention=attention, prefix=Prefix(5), max_length=128).eval()
    nn.init.normal_(backbone.prefix_table.table)  # large enough to matter
    tokens = tokenize(backbone.tokenizer, texts, max_length=100)
    mask = tokens.attention_mask.bool()
    found = backbone(tokens).last
    torch.testing.assert_close(found[mask], by_hand(backbone, tokens)[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_positions_begin_behind_the_prefix(kind, texts):
    """Shifted positions are part of the definition: without the shift the states differ visibly."""
    backbone = TinyRandom(kind, prefix=Prefix(5), max_length=128).eval()
    nn.init.normal_(backbone.network.embeddings.position_embeddings.weight)
    tokens = tokenize(backbone.tokenizer, texts, max_length=100)
    shifted = backbone(tokens).last
    unshifted = (tokens.attention_mask.cumsum(1) - 1).clamp(min=0) + backbone.first_position
    moved = backbone(dataclasses.replace(tokens, position_ids=unshifted)).last
    assert (shifted - moved).abs().max() > 1e-2


def test_only_the_prefix_is_trained_and_the_frozen_network_stays_in_train_mode():
    backbone = TinyRandom("bert", prefix=Prefix(4), num_layers=2, hidden_size=32, num_heads=2)
    trained = {name: p.numel() for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"prefix_table.table": 4 * 2 * 2 * 32}
    assert backbone.network.training
    encoder = Encoder(backbone, pooling="cls")
    tokens = tokenize(encoder.tokenizer, ["one text", "another"])
    assert not torch.allclose(encoder(tokens), encoder(tokens))  # dropout of the network and of the prefix
    encoder(tokens)[:, 0].sum().backward()  # a layer norm's outputs add up to 0, whatever comes in
    assert backbone.prefix_table.table.grad.abs().sum() > 0


def test_its_dropout_is_drawn_for_every_text():
    backbone = TinyRandom("bert", prefix=Prefix(4, dropout=0.5), dropout=0.0)
    states = backbone(tokenize(backbone.tokenizer, ["same", "same"])).last
    assert not torch.allclose(states[0], states[1])


def drawn(backbone: TinyRandom, seeds: torch.Tensor) -> torch.Tensor:
    """The keys of the first layer, (b, heads, k, width)."""
    return backbone.prefix_table(len(seeds), torch.float32, seeds).layers[0].keys


def test_a_texts_seed_decides_its_dropout_wherever_the_text_stands():
    backbone = TinyRandom("bert", prefix=Prefix(4, dropout=0.5))
    seeds = torch.tensor([5, 2**62 - 1, 5, 9])
    torch.manual_seed(0)
    found = drawn(backbone, seeds)
    before = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), before), "torch's own generator is left alone"
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])
    order = torch.tensor([3, 1, 0])
    assert torch.equal(drawn(backbone, seeds[order]), found[order])
    assert torch.equal(drawn(backbone, seeds[1:2])[0], found[1])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6])
def test_seeded_dropout_is_dropout(rate):
    backbone = TinyRandom("bert", prefix=Prefix(8, dropout=rate)).double()
    backbone.prefix_table.table.data.fill_(1.0)
    tokens = seeded(tokenize(backbone.tokenizer, ["text"] * 50))
    assert tokens.seeds.unique().numel() == 50
    keys = backbone.prefix_table(50, torch.float64, tokens.seeds).layers[0].keys
    kept = keys != 0
    assert (~kept).double().mean().item() == pytest.approx(rate, abs=0.02)
    torch.testing.assert_close(keys[kept], torch.full_like(keys[kept], 1 / (1 - rate)))
    (gradient,) = torch.autograd.grad(keys.sum(), backbone.prefix_table.table)
    assert gradient.sum().item() == pytest.approx(keys.sum().item())
    keys = backbone.eval().prefix_table(50, torch.float64, tokens.seeds).layers[0].keys
    assert torch.equal(keys, torch.ones_like(keys))


def test_a_second_pass_does_not_see_a_longer_prefix(texts):
    backbone = TinyRandom("bert", prefix=Prefix(4)).eval()
    tokens = tokenize(backbone.tokenizer, texts)
    assert torch.equal(backbone(tokens).last, backbone(tokens).last)


def test_a_projected_table_has_the_same_shape():
    backbone = TinyRandom("bert", prefix=Prefix(4, projection=8)).eval()
    assert backbone(tokenize(backbone.tokenizer, ["x"])).last.shape[-1] == 32
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == {
        "prefix_table.table", "prefix_table.projection.0.weight", "prefix_table.projection.0.bias",
        "prefix_table.projection.2.weight", "prefix_table.projection.2.bias",
    }  # fmt: skip


def test_the_prefix_takes_positions_from_the_text():
    encoder = Encoder(TinyRandom("bert", prefix=Prefix(4), max_length=64), pooling="cls")
    assert encoder.max_length == 60
    with pytest.raises(UsageError, match="max_length"):
        encoder.fitting(61)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Prefix(0), "prefix length of at least 1; got 0"),
        (lambda: Prefix(2, dropout=1.0), "prefix dropout"),
        (lambda: Prefix(2, projection=0), "prefix projection"),
        (
            lambda: TinyRandom(prefix=Prefix(62), max_length=64),
            "room for a text of 3 tokens within 64 positions; got length 62",
        ),
        (lambda: TinyRandom(prefix=Prefix(2), lora=Lora()), "prefix or lora, got both"),
        (
            lambda: TinyRandom(prefix=Prefix(2), gradient_checkpointing=True),
            "prefix or gradient_checkpointing, got both",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()


def test_an_export_keeps_the_prefix(tmp_path, texts):
    encoder = Encoder(TinyRandom("bert", prefix=Prefix(3, projection=8)), pooling="cls").eval()
    made = encoder.save_pretrained(tmp_path / "export")
    assert made.obstacle == "it has no keys and values in front of every layer's own"
    again = Encoder.from_pretrained(tmp_path / "export")
    torch.testing.assert_close(encoder.encode(texts), again.encode(texts))
    (tmp_path / "export" / "prefix.safetensors").unlink()
    with pytest.raises(MissingError, match=r"prefix.safetensors; it is not there"):
        Encoder.from_pretrained(tmp_path / "export")


def test_a_backbone_that_would_drop_an_exports_prefix_is_refused(tmp_path):
    Encoder(TinyRandom(prefix=Prefix(3)), pooling="cls").eval().save_pretrained(tmp_path / "export")
    with pytest.raises(UsageError, match="was exported with a prefix.*it would be dropped"):
        Pretrained(str(tmp_path / "export"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_network_of_another_dtype_takes_a_prefix(dtype, texts):
    encoder = Encoder(TinyRandom(prefix=Prefix(3), dtype=dtype), pooling="cls")
    assert encoder.encode(texts).isfinite().all()
    encoder(tokenize(encoder.tokenizer, texts))[:, 0].sum().backward()
    assert encoder.backbone.prefix_table.table.grad.abs().sum() > 0
