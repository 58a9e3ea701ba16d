"""The attention implementation is chosen by what can run, and the choice has a reason."""

from __future__ import annotations

import importlib.machinery

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.attention import choose_attention


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


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="flash3"):
        choose_attention("flash3", torch.float32)  # type: ignore[arg-type]
