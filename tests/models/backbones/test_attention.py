"""The attention implementation is chosen by what can run, and the choice has a reason."""

from __future__ import annotations

import importlib.machinery

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.backbones.attention import choose_attention, unless_flash_unfit
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.text.tokens import tokenize


@pytest.fixture
def flash_machine(monkeypatch):
    """Pretend that flash-attn and a fitting GPU are there."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_is_asked_for_is_taken(attention):
    assert choose_attention(attention, torch.float32) == (attention, "as asked")


@pytest.mark.usefixtures("flash_machine")
def test_auto_takes_flash_where_it_can_run():
    assert choose_attention("auto", torch.bfloat16)[0] == "flash_attention_2"
    assert choose_attention("flash", torch.float16) == ("flash_attention_2", "as asked")


@pytest.mark.parametrize("installed", [True, False])
def test_without_a_gpu_nothing_is_to_be_installed(monkeypatch, installed):
    spec = importlib.machinery.ModuleSpec("flash_attn", None) if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    reason = "PyTorch's own, as there is no CUDA GPU; eager where a CPU computes in bfloat16"
    assert choose_attention("auto", torch.bfloat16) == (None, reason)


def test_auto_takes_no_flash_where_the_causal_mask_is_off(tmp_path, monkeypatch):
    for layers in (False, 1, True):
        network = TinyRandom("llama").network
        assert unless_flash_unfit(type(network), layers, "so")[0] == (None if layers else "flash_attention_2")
    folder = tmp_path / "base"
    network.save_pretrained(folder)
    TinyRandom("llama").tokenizer.save_pretrained(folder)
    monkeypatch.setattr(
        "inbatch.models.backbones.pretrained.choose_attention", lambda *_: ("flash_attention_2", "it is there")
    )
    backbone = Pretrained(str(folder), bidirectional=True)
    assert (backbone.attention, backbone.attention_reason.split(":")[0]) == ("sdpa", "no flash")


@pytest.mark.usefixtures("flash_machine")
@pytest.mark.parametrize(
    ("obstacle", "patch", "dtype"),
    [
        ("not installed", ("importlib.util.find_spec", lambda name: None), torch.bfloat16),
        ("no CUDA GPU", ("torch.cuda.is_available", lambda: False), torch.bfloat16),
        ("compute capability", ("torch.cuda.get_device_capability", lambda: (7, 5)), torch.bfloat16),
        ("half-precision", ("torch.cuda.is_available", lambda: True), torch.float32),
    ],
)
def test_auto_says_why_not_flash_and_flash_refuses(monkeypatch, obstacle, patch, dtype):
    monkeypatch.setattr(*patch)
    implementation, reason = choose_attention("auto", dtype)
    assert implementation is None
    assert obstacle in reason
    with pytest.raises(UsageError, match=obstacle):
        choose_attention("flash", dtype)


def test_a_cpu_takes_plain_products_for_bfloat16_and_the_fused_kernel_otherwise():
    backbone = TinyRandom("bert", dropout=0.0).eval()
    tokens = tokenize(backbone.tokenizer, ["one", "a longer one"], 16)
    exact = backbone(tokens).last
    assert backbone.attention == "sdpa"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = backbone(tokens).last
    assert backbone.attention == "eager"
    assert torch.allclose(rounded.float(), exact, atol=0.1)
    assert torch.equal(backbone(tokens).last, exact)
    assert backbone.attention == "sdpa"


def test_what_was_asked_for_is_not_adapted():
    backbone = TinyRandom("bert", attention="sdpa", dtype="bfloat16")
    backbone(tokenize(backbone.tokenizer, ["one"], 16))
    assert backbone.attention == "sdpa"
    adapted = TinyRandom("bert", dtype="bfloat16")
    adapted(tokenize(adapted.tokenizer, ["one"], 16))
    assert adapted.attention == "eager"


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="flash3"):
        choose_attention("flash3", torch.float32)  # type: ignore[arg-type]
