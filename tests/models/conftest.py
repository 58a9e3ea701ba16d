"""What the tests of models share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from inbatch.models.encoder import Encoder

TEXTS = [
    "hello world",
    "a longer text about many things, " * 6 + "the end",
    "déjà vu, 漢字 and 🙂",
    "x",
    "The quick brown fox jumps over the lazy dog.",
    "def add(a, b):\n    return a + b",
    "seven",
    "eight words of no meaning in one row",
]


@pytest.fixture
def texts() -> list[str]:
    """Return texts of mixed length, none empty and none with blanks at its ends."""
    return list(TEXTS)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights in every test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def stir() -> Callable[[Encoder], Encoder]:
    """Return a function that draws an encoder's LoRA B matrices, which start at zero and so have no effect."""

    def draw(encoder: Encoder) -> Encoder:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.05, generator=generator)
        return encoder

    return draw


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client act as with HF_HUB_OFFLINE=1."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
