"""LoRA: what trains, what merges, what is saved, and that a loaded adapter took effect."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from inbatch.errors import MissingError, UsageError
from inbatch.models.adapters.lora import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Lora,
    base_sha256,
    load_adapter,
    merged_state,
    save_adapter,
    weights_sha256,
    without_adapter,
)
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_only_adapters_train_and_every_linear_layer_has_one(kind):
    backbone = TinyRandom(kind, lora=Lora(rank=2))
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    linear = [m for m in TinyRandom(kind).modules() if isinstance(m, torch.nn.Linear)]
    assert len(trainable) == 2 * len(linear)


def test_a_step_moves_adapters_and_nothing_else(texts):
    encoder = Encoder(TinyRandom(lora=Lora(rank=2)))
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    from inbatch.text.tokens import tokenize

    for _ in range(2):
        optimizer.zero_grad()
        z = encoder(tokenize(encoder.tokenizer, texts, 32))
        (z @ z.detach().roll(1, 0).T).diagonal().sum().backward()
        optimizer.step()
    moved = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}


def test_targets_choose_layers():
    backbone = TinyRandom(lora=Lora(rank=2, alpha=4, dropout=0.1, targets=["query"]))
    names = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert names
    assert all(".query." in name for name in names)


def test_one_target_may_be_given_without_a_list():
    one, listed = (TinyRandom(lora=Lora(rank=2, targets=targets)) for targets in ("query", ["query"]))
    names = [name for name, parameter in one.named_parameters() if parameter.requires_grad]
    assert names
    assert all(".query.lora_" in name for name in names)
    assert names == [name for name, parameter in listed.named_parameters() if parameter.requires_grad]


def test_targets_that_match_nothing_are_refused_with_those_that_would():
    with pytest.raises(UsageError, match=r"nope.*query"):
        TinyRandom(lora=Lora(targets=["nope"]))


@pytest.mark.parametrize("setting", [{"rank": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_numbers_out_of_range_are_refused(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        Lora(**setting)


def test_a_pooler_that_a_class_insists_on_gets_no_adapter():
    from transformers import BertConfig, BertModel

    from inbatch.models.adapters.lora import attach

    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = attach(BertModel(config), Lora(rank=2))
    assert not [name for name, p in model.named_parameters() if "pooler" in name and p.requires_grad]


def test_merging_reads_and_never_writes(stir):
    encoder = stir(Encoder(TinyRandom(lora=Lora(rank=2))))
    network = encoder.backbone.network
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    merged = merged_state(network)
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    plain = TinyRandom().network
    assert merged.keys() == plain.state_dict().keys()
    name = "encoder.layer.0.attention.self.query"
    a, b = before[f"{name}.lora_A.default.weight"], before[f"{name}.lora_B.default.weight"]
    expected = before[f"{name}.base_layer.weight"] + 16 / 2 * b @ a
    torch.testing.assert_close(merged[f"{name}.weight"], expected)


def test_without_adapter_is_the_base_and_changes_nothing(stir, texts):
    encoder = stir(Encoder(TinyRandom(lora=Lora(rank=2))))
    encoder.backbone.model.requires_grad_(False)
    with without_adapter(encoder.backbone.model):
        off = encoder.encode(texts)
    assert torch.equal(off, Encoder(TinyRandom()).encode(texts))
    assert not torch.equal(encoder.encode(texts), off)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_hash_is_of_names_and_values(stir):
    a = [("x", torch.ones(2)), ("y", torch.zeros(2, dtype=torch.bfloat16))]
    assert weights_sha256(a) == weights_sha256(a[::-1])
    assert weights_sha256(a) != weights_sha256([("x", torch.ones(2)), ("z", a[1][1])])
    assert weights_sha256(a) != weights_sha256([("x", torch.ones(2) * 2), a[1]])
    adapted = stir(Encoder(TinyRandom(lora=Lora(rank=2))))
    assert base_sha256(adapted.backbone.network) == base_sha256(TinyRandom().network)
    assert base_sha256(TinyRandom(seed=1).network) != base_sha256(TinyRandom().network)


def test_saved_adapter_has_peft_format_and_loads_wholly(stir, texts, tmp_path):
    encoder = stir(Encoder(TinyRandom(lora=Lora(rank=2))))
    save_adapter(encoder.backbone.model, tmp_path / "adapter", base="some/base")
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    config = json.loads((tmp_path / "adapter" / ADAPTER_CONFIG).read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert config["task_type"] == "FEATURE_EXTRACTION"
    assert all(
        name.startswith("base_model.model.encoder") for name in load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS)
    )
    other = Encoder(TinyRandom())
    other.backbone.model = load_adapter(other.backbone.network, tmp_path / "adapter")
    assert torch.equal(other.encode(texts), encoder.encode(texts))


@pytest.fixture
def saved(tmp_path, stir):
    """Return the folder of an adapter for a two-layer network."""
    save_adapter(stir(Encoder(TinyRandom(lora=Lora(rank=2)))).backbone.model, tmp_path / "adapter", base="some/base")
    return tmp_path / "adapter"


def test_an_adapter_without_weights_is_missing(saved):
    (saved / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(MissingError, match=r"hf download"):
        load_adapter(TinyRandom().network, saved)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("base", "why"),
    [(TinyRandom(num_layers=1), "load wholly"), (TinyRandom(hidden_size=16), "fits"), (TinyRandom("llama"), "fits")],
    ids=["fewer layers", "other size", "other architecture"],
)
def test_an_adapter_of_another_network_is_refused(saved, base, why):
    with pytest.raises(UsageError, match=why):
        load_adapter(base.network, saved)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_would_load_as_nothing_is_refused(saved):
    # Keys of another wrapping: peft loads such a file without an error, and the network stays the base.
    state = {
        name.replace("base_model.model.", "base_model.model.model."): t
        for name, t in load_file(saved / ADAPTER_WEIGHTS).items()
    }
    save_file(state, saved / ADAPTER_WEIGHTS)
    with pytest.raises(UsageError, match="load wholly"):
        load_adapter(TinyRandom().network, saved)
