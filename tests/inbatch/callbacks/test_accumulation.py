"""A scheduler of accumulation: the rows are those of one pass after the other, and a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import equal, lines_of, state

SCHEDULER = (
    "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.GradientAccumulationScheduler, "
    "init_args: {scheduling: {%s}}}, {class_path: fit_parts.FailWhenAsked}]"
)


@pytest.mark.parametrize(
    ("scheduling", "seen"),
    [
        ("0: 1, 1: 2, 2: 3", [16, 32, 40, 72, 80, 120, 160]),
        ("2: 2", [16, 32, 40, 56, 72, 80, 112, 120, 152, 160]),  # epochs before the first have 1
        ("0: 3, 2: 1", [40, 80, 96, 112, 120, 136, 152, 160]),
        ("0: 2", [32, 40, 72, 80, 112, 120, 152, 160]),
    ],
)
def test_steps_rows_and_schedule_follow_the_scheduler(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch, scheduling: str, seen: list[int]
):
    options = (SCHEDULER % scheduling, "--trainer.max_steps=-1", "--trainer.max_epochs=4", "--checkpoint_every=1")
    assert fit("--run_dir=whole", *options).code == 0
    lines = lines_of(run_folder / "whole" / "metrics.jsonl")
    assert [line["train/samples_seen"] for line in lines] == seen
    assert lines[-1]["train/lr"] == pytest.approx(0.003 / (len(seen) - 2), rel=1e-6)  # warm-up takes two
    monkeypatch.setenv("FAIL_AT_STEP", "5")
    assert fit("--run_dir=broken", *options).code == 1
    monkeypatch.delenv("FAIL_AT_STEP")
    assert fit("--run_dir=broken", *options).code == 0
    whole, broken = (state(run_folder / name) for name in ("whole", "broken"))
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "inbatch"):
        assert equal(whole[part], broken[part]), part


def test_a_scheduler_of_one_is_the_option(fit: Callable[..., Any], run_folder: Path):
    assert fit("--run_dir=one", SCHEDULER % "0: 2", "--trainer.max_steps=6").code == 0
    assert fit("--run_dir=two", "--trainer.accumulate_grad_batches=2", "--trainer.max_steps=6").code == 0
    assert equal(state(run_folder / "one")["state_dict"], state(run_folder / "two")["state_dict"])
