"""A run whose time is over stops between two steps, and goes on exactly, however batches are accumulated and epochs counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import equal, state, steps_in

from inbatch.callbacks.max_time import MaxTime

TIME = "--trainer.max_time=00:01:00:00"
STEPS = ("--trainer.max_steps=8",)
EPOCHS = ("--trainer.max_steps=-1", "--trainer.max_epochs=4")
TWO = ("--trainer.accumulate_grad_batches=2",)
SCHEDULER = (
    "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.GradientAccumulationScheduler, "
    "init_args: {scheduling: {0: 1, 1: 3, 2: 2}}}]",
)


def time_is_over_after(patch: pytest.MonkeyPatch, calls: int) -> None:
    """Let the clock say so at the n-th look at it, of which there is one at the start and one after each step."""
    looks = iter(range(10_000))
    patch.setattr(MaxTime, "time_remaining", lambda self: -1.0 if next(looks) >= calls else 1.0)


@pytest.mark.parametrize(
    ("options", "stop", "steps"),
    [
        (STEPS, 4, 8),
        ((*STEPS, *TWO), 3, 8),
        (EPOCHS, 4, 12),
        (EPOCHS, 6, 12),
        ((*EPOCHS, *TWO), 3, 8),
        ((*EPOCHS, *SCHEDULER), 4, 8),
    ],
    ids=["steps", "accumulated", "epochs", "at the end of an epoch", "epochs of accumulated", "scheduler"],
)
def test_a_run_goes_on_exactly_where_its_time_was_over(
    fit: Callable[..., Any],
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    stop: int,
    steps: int,
):
    assert fit("--run_dir=whole", *options, TIME).code == 0
    with monkeypatch.context() as patch:
        time_is_over_after(patch, stop)
        stopped = fit("--run_dir=broken", *options, TIME)
    assert stopped.code == 75
    assert f"stopped after step {stop}, which is saved" in stopped.err
    assert state(run_folder / "broken")["global_step"] == stop
    done = fit("--run_dir=broken", *options, TIME)
    assert done.code == 0, done.err
    assert f"finished: {steps} steps" in done.out
    whole, broken = (run_folder / name for name in ("whole", "broken"))
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "inbatch"):
        assert equal(state(whole)[part], state(broken)[part]), part
    assert steps_in(whole) == steps_in(broken)


def test_the_time_of_all_starts_counts(fit: Callable[..., Any], run_folder: Path):
    slow = "--trainer.callbacks=[{class_path: fit_parts.Slow, init_args: {step_seconds: 0.4, save_seconds: 0.0}}]"
    options = ("--run_dir=run", *STEPS, slow)
    assert fit(*options, "--trainer.max_time=00:00:00:01").code == 75
    step = state(run_folder / "run")["global_step"]
    again = fit(*options, "--trainer.max_time=00:00:00:01")
    assert again.code == 75
    assert f"stopped after step {step}, which is saved" in again.err


def test_a_time_alone_ends_a_run_as_finished(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    options = ("--run_dir=run", "--trainer.max_steps=-1", "--model.schedule=constant", TIME, *TWO)
    time_is_over_after(monkeypatch, 3)
    done = fit(*options)
    assert done.code == 0, done.err
    assert "finished: 3 steps" in done.out
    assert fit(*options).out.startswith("finished before: 3 steps")


def test_the_last_step_is_done_whatever_the_time(fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    epoch = "--trainer.max_epochs=1"
    for number, options in enumerate(
        (("--trainer.max_steps=3",), (*EPOCHS[:1], epoch), ("--trainer.max_steps=9", epoch))
    ):
        with monkeypatch.context() as patch:
            time_is_over_after(patch, 3)
            assert fit(f"--run_dir={number}", *options, TIME).code == 0
