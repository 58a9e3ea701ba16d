"""QLoRA: weights in 4 bits are what they say, adapters on them train, merge and come back."""

from __future__ import annotations

import json

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters import quantization
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.quantization import dequantized, is_quantized
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize


@pytest.fixture
def base(tmp_path) -> str:
    """A plain folder of a tiny decoder whose matrices are wide enough to be packed."""
    backbone = TinyRandom("llama", hidden_size=64, num_heads=4)
    backbone.network.save_pretrained(tmp_path / "base")
    backbone.tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.fixture
def packed(base):
    pytest.importorskip("bitsandbytes")
    return Pretrained(base, quantize="nf4", dtype="float32", lora=Lora(rank=2))


def test_weights_take_half_a_byte_and_are_near_the_ones_they_were(base, packed):
    plain = Pretrained(base)
    assert is_quantized(packed.network)
    assert not is_quantized(plain.network)
    name = "layers.0.mlp.down_proj"
    small, large = packed.network.get_submodule(name).base_layer.weight, plain.network.get_submodule(name).weight
    assert small.nbytes * 8 == large.nbytes
    error = (dequantized(small, torch.float32) - large).abs().max() / large.abs().max()
    assert 0 < error < 0.2
    assert dequantized(large, torch.float32) is large


def test_adapters_train_on_them(packed, texts):
    encoder = Encoder(packed, pooling="last")
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    encoder(tokenize(encoder.tokenizer, texts, 32)).square().sum(1).log().sum().backward()
    z = encoder(tokenize(encoder.tokenizer, texts, 32))
    (z @ z.detach().roll(1, 0).T).diagonal().sum().backward()
    assert all(p.grad.any() for name, p in encoder.named_parameters() if "lora_B" in name)


def test_an_evaluation_and_a_checkpoint_leave_the_weights_as_they_are(packed, texts, stir):
    encoder = stir(Encoder(packed, pooling="last"))
    weights = [p for p in encoder.parameters() if hasattr(p, "quant_state")]
    before = [dequantized(p, torch.float32).clone() for p in weights]
    embedded = encoder.encode(texts)
    encoder.state_dict()
    assert all(torch.equal(dequantized(p, torch.float32), old) for p, old in zip(weights, before))
    assert torch.equal(encoder.encode(texts), embedded)


def test_an_export_holds_plain_weights_and_an_adapter_that_knows_its_base_was_packed(packed, texts, tmp_path, stir):
    encoder = stir(Encoder(packed, pooling="last")).eval()
    before = encoder.encode(texts)
    encoder.save_pretrained(tmp_path / "export")
    merged = Encoder.from_pretrained(tmp_path / "export")
    assert not is_quantized(merged.backbone.network)
    assert "quantization" not in (tmp_path / "export" / "config.json").read_text()
    torch.testing.assert_close(merged.encode(texts), before, atol=5e-3, rtol=0)
    alone = Encoder.from_pretrained(tmp_path / "export" / "adapter")
    assert is_quantized(alone.backbone.network)
    torch.testing.assert_close(alone.encode(texts), before, atol=1e-5, rtol=0)
    record = json.loads((tmp_path / "export" / "adapter" / "inbatch.json").read_text())
    assert record["base"]["quantize"] == "nf4"
    other = TinyRandom("llama", hidden_size=64, num_heads=4, seed=5)
    other.network.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match="the weights of .* are others"):
        Encoder.from_pretrained(tmp_path / "export" / "adapter", base=tmp_path / "other")


def test_refusals(base, monkeypatch):
    with pytest.raises(UsageError, match="quantize to be nf4 or null; got 'int8'"):
        Pretrained(base, quantize="int8", lora=Lora())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="quantized weights cannot be trained"):
        Pretrained(base, quantize="nf4")
    with pytest.raises(UsageError, match="nf4 computes in float32"):
        Pretrained(base, quantize="nf4", lora=Lora(), dtype="float64")
    with pytest.raises(UsageError, match="GPT2Model has others"):
        quantization.refuse_unpackable(TinyRandom("gpt2").config)
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"inbatch\[qlora\]"):
        Pretrained(base, quantize="nf4", lora=Lora())
