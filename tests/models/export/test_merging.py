"""Adapters on weights in 4 bits, merged into those or into the ones that they were made from: what an export then holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from inbatch.errors import InbatchError, UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.quantization import is_quantized
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export import write as export_module
from inbatch.models.export.merging import merges_elsewhere

LORA = Lora(rank=2, alpha=6)
OPTIONS: dict[str, dict[str, Any]] = {
    "opt": {},
    "llama": {},
    "llama without its mask": {"bidirectional": True},
    "llama, its last layer without": {"bidirectional": 1},
    "llama, one layer": {"layers": 1},
    "opt in bfloat16": {"dtype": "bfloat16"},
}


@pytest.fixture(params=OPTIONS)
def options(request, tmp_path) -> dict[str, Any]:
    """What `Pretrained` is made with: a plain folder of a tiny decoder wide enough to be packed, and options."""
    pytest.importorskip("bitsandbytes")
    backbone = TinyRandom(request.param.split()[0].strip(","), hidden_size=64, num_heads=4)
    backbone.network.save_pretrained(tmp_path / "base")
    backbone.tokenizer.save_pretrained(tmp_path / "base")
    return {"name": str(tmp_path / "base"), "lora": LORA, **OPTIONS[request.param]}


def test_an_unquantized_merge_is_the_base_itself_with_the_adapter(options, stir, texts, tmp_path):
    packed = Pretrained(**options, quantize="nf4", merge_into="unquantized")
    live = stir(Encoder(packed, pooling="mean")).eval()
    before = live.encode(texts)
    live.save_pretrained(tmp_path / "export")
    # The same adapter on the base as it is, in float32.
    plain = Encoder(Pretrained(**options | {"dtype": "float32"}), pooling="mean").eval()
    adapter = {name: p for name, p in live.named_parameters() if "lora_" in name}
    plain.load_state_dict(adapter, strict=False)
    merged = Encoder.from_pretrained(tmp_path / "export")
    assert merged.backbone.network.dtype == torch.float32
    torch.testing.assert_close(merged.encode(texts), plain.encode(texts), atol=1e-6, rtol=0)
    assert (merged.encode(texts) - before).abs().max() > 1e-3  # the 4 bits of the live one are seen
    # The live encoder is what it was, and the adapter alone comes back onto packed weights.
    assert packed.quantize == "nf4"
    assert is_quantized(packed.network)
    assert torch.equal(live.encode(texts), before)
    alone = Encoder.from_pretrained(tmp_path / "export" / "adapter")
    assert is_quantized(alone.backbone.network)
    torch.testing.assert_close(alone.encode(texts), before, atol=1e-5, rtol=0)


def test_each_weight_is_the_bases_plus_the_product_of_the_adapters(options, stir, tmp_path):
    live = stir(Encoder(Pretrained(**options, quantize="nf4", merge_into="unquantized"), pooling="mean"))
    live.save_pretrained(tmp_path / "export")
    base = load_file(tmp_path / "base" / "model.safetensors")
    found = load_file(tmp_path / "export" / "model.safetensors")
    adapters = {name: p.detach() for name, p in live.backbone.named_parameters() if "lora_" in name}
    changed = 0
    for name, weight in found.items():
        stem = f"model.base_model.model.{name.removesuffix('.weight')}"
        update = torch.zeros(())
        if f"{stem}.lora_A.default.weight" in adapters:
            a, b = (adapters[f"{stem}.lora_{letter}.default.weight"] for letter in "AB")
            update = LORA.alpha / LORA.rank * b @ a
            changed += 1
        torch.testing.assert_close(weight, base[name] + update, atol=1e-6, rtol=0)
    assert changed == len(adapters) // 2


def test_a_quantized_merge_stands_for_what_was_trained_on(options, stir, texts, tmp_path):
    live = stir(Encoder(Pretrained(**options, quantize="nf4"), pooling="mean")).eval()
    live.save_pretrained(tmp_path / "export")
    merged = Encoder.from_pretrained(tmp_path / "export")
    assert merged.backbone.network.dtype == live.backbone.network.dtype
    narrow = "dtype" in options
    torch.testing.assert_close(merged.encode(texts), live.encode(texts), atol=5e-2 if narrow else 5e-3, rtol=0)
    base = load_file(tmp_path / "base" / "model.safetensors")
    found = load_file(tmp_path / "export" / "model.safetensors")
    name = next(name for name in found if name.endswith(("fc1.weight", "up_proj.weight")))
    assert (found[name].float() - base[name]).abs().max() > 1e-3


def test_an_adapter_that_comes_back_is_merged_as_before(stir, texts, tmp_path, options):
    live = stir(Encoder(Pretrained(**options, quantize="nf4", merge_into="unquantized"), pooling="mean"))
    live.save_pretrained(tmp_path / "export")
    record = json.loads((tmp_path / "export" / "adapter" / "inbatch.json").read_text())
    assert (record["base"]["quantize"], record["base"]["merge_into"]) == ("nf4", "unquantized")
    assert record["dtype"] == options.get("dtype", "float32")
    Encoder.from_pretrained(tmp_path / "export" / "adapter").save_pretrained(tmp_path / "again")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("export", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("options", ["opt"], indirect=True)
def test_the_live_network_comes_back_from_an_export_that_fails(options, stir, texts, tmp_path, monkeypatch):
    live = stir(Encoder(Pretrained(**options, quantize="nf4", merge_into="unquantized"), pooling="mean")).eval()
    before = live.encode(texts)
    monkeypatch.setattr(export_module, "_difference", lambda a, b: 1.0)
    with pytest.raises(InbatchError, match="the folder was not kept"):
        live.save_pretrained(tmp_path / "export")
    assert not (tmp_path / "export").exists()
    assert is_quantized(live.backbone.network)
    assert torch.equal(live.encode(texts), before)


@pytest.mark.parametrize("options", ["opt"], indirect=True)
@pytest.mark.parametrize(
    ("how", "adapter"),
    [
        (
            {"quantize": "nf4", "merge_into": "unquantized"},
            "trained on weights in nf4, merged into the unquantized weights in float32",
        ),
        ({"quantize": "nf4"}, "trained on weights in nf4, merged into the weights"),
        ({"merge_into": "unquantized"}, "merged into the weights"),
    ],
)
def test_the_card_says_what_was_merged_into_what(options, how, adapter, stir, tmp_path):
    live = stir(Encoder(Pretrained(**options, **how), pooling="mean"))
    live.save_pretrained(tmp_path / "export")
    assert f"| adapter | LoRA, {adapter}; also apart" in (tmp_path / "export" / "README.md").read_text()
    assert merges_elsewhere(live.backbone) == ("unquantized" in adapter)


@pytest.mark.parametrize("options", ["opt", "llama"], indirect=True)
def test_without_quantized_weights_there_is_nothing_to_choose(options, stir, texts, tmp_path):
    live = stir(Encoder(Pretrained(**options, merge_into="unquantized"), pooling="mean")).eval()
    live.save_pretrained(tmp_path / "export")
    torch.testing.assert_close(
        Encoder.from_pretrained(tmp_path / "export").encode(texts), live.encode(texts), atol=1e-6, rtol=0
    )


def test_other_words_are_refused(tmp_path):
    with pytest.raises(
        UsageError, match="merge_into to be quantized or unquantized; got 'base'. Set backbone.merge_into"
    ):
        Pretrained("minilm", merge_into="base")  # type: ignore[arg-type]
