from __future__ import annotations

import logging
import warnings

import pytest

from inbatch.run.lightning_words import silence_lightning


def test_only_what_the_first_screen_says_is_silenced(monkeypatch: pytest.MonkeyPatch):
    for name in ("lightning.pytorch", "lightning.fabric"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        silence_lightning()
        warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
        warnings.warn("You're resuming from a checkpoint but your dataloader is not resumable.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(one.message) for one in heard] == ["something else"]
    assert (
        logging.getLogger("lightning.pytorch").level == logging.getLogger("lightning.fabric").level == logging.WARNING
    )
