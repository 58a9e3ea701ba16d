"""Errors name the option that can be typed, and typed with a sensible value it mends them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import Trainer

from inbatch.errors import InbatchError

BACKBONE = "--model.encoder.init_args.backbone.init_args"
ENCODER = "--model.encoder.init_args"
OBJECTIVE = "--model.objective.init_args"

TABLE = [
    ([f"{OBJECTIVE}.temperature=0"], ["0.05"]),
]


class Ready(InbatchError):
    """All that a run checks before its first step has passed."""

    exit_code = 0


@pytest.fixture
def until_training(fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def ready(trainer: Trainer) -> None:
        raise Ready("ready")

    monkeypatch.setattr(Trainer, "_run_stage", ready)
    return fit


@pytest.mark.parametrize(("wrong", "values"), TABLE, ids=lambda value: str(value)[:60])
def test_the_option_that_an_error_names_mends_it(until_training: Callable[..., Any], wrong: list[str], values: list[str]):
    refused = until_training("--run_dir=run", *wrong)
    assert refused.code == 2, refused.err
    print(refused.err)
    options = re.findall(r"--[\w.]+", refused.err)
    assert len(options) >= len(values)
    mended = until_training("--run_dir=run", *wrong, *(f"{o}={v}" for o, v in zip(options, values)))
    assert mended.code == 0, mended.err
