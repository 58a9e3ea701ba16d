"""What `auto` takes, by device and by what products reach; and what is said of a precision that is set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import known_rates
import pytest
import torch
import yaml

from inbatch.callbacks.first_screen import FirstScreen
from inbatch.kernels.trial import Rates
from inbatch.precision import WORTH, device_of, resolve

BOTH = ("float32", "bfloat16")


@pytest.fixture(params=BOTH)
def faster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    known_rates.stub(monkeypatch, request.param)
    return request.param


def gpu(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)


def test_a_processor_takes_what_its_products_are_faster_in(faster: str):
    value, reason = resolve("auto", "cpu")
    assert value == known_rates.PRECISION[faster]
    rates = known_rates.KNOWN[faster]
    assert (
        reason
        == f"auto: products here reach {rates.matmul:,.0f} GFLOP/s a thread in float32, {rates.bfloat16:,.0f} in bfloat16"
    )


@pytest.mark.parametrize(("factor", "value"), [(1.1, "32-true"), (WORTH, "32-true"), (WORTH + 0.1, "bf16-mixed")])
def test_mixed_precision_must_win_clearly(factor: float, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inbatch.arithmetic.measured_rates", lambda: Rates(100.0, 300.0, 100.0 * factor))
    assert resolve("auto", "cpu").value == value


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
@pytest.mark.parametrize(("bfloat16", "value"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_takes_bfloat16_where_it_has_it(
    accelerator: str, bfloat16: bool, value: str, monkeypatch: pytest.MonkeyPatch
):
    gpu(monkeypatch, bfloat16)
    assert resolve("auto", accelerator).value == value
    assert "bfloat16" in resolve("auto", accelerator).reason


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16", "bf16-true", "16-mixed"])
def test_a_slow_precision_is_kept_and_said_to_be_slow(precision: str, faster: str):
    value, reason = resolve(precision, "cpu")
    assert value == precision
    slow = "as set; slow on this processor, auto would take 32-true: products here reach 70 GFLOP/s a thread in float32, 10 in bfloat16"
    assert reason == (slow if faster == "float32" else "as set")


@pytest.mark.parametrize("precision", ["32-true", "32", 32, None])
def test_float32_is_kept_and_what_is_faster_is_said(precision: Any, faster: str):
    value, reason = resolve(precision, "cpu")
    assert value == precision
    assert reason.startswith("as set; auto would take bf16-mixed: " if faster == "bfloat16" else "as set")
    assert faster == "bfloat16" or reason == "as set"


@pytest.mark.parametrize("precision", ["64-true", 64, "16-true", "transformer-engine"])
def test_of_other_precisions_nothing_is_said(precision: Any, faster: str):
    assert resolve(precision, "cpu") == (precision, "as set")


@pytest.mark.parametrize("recorded", ["32-true", "bf16-mixed"])
def test_a_run_goes_on_in_the_precision_that_it_began_with(recorded: str, faster: str):
    value, reason = resolve("auto", "cpu", recorded)
    assert value == recorded
    assert reason.startswith("auto when the run began")
    assert ("would take" in reason) == (recorded != known_rates.PRECISION[faster])
    assert ("slow on this processor" in reason) == ((recorded, faster) == ("bf16-mixed", "float32"))


def test_devices_are_those_that_the_trainer_takes(monkeypatch: pytest.MonkeyPatch):
    class CPUAccelerator: ...

    assert device_of(CPUAccelerator()) == "cpu"
    assert device_of("tpu") == "tpu"
    assert resolve("auto", "tpu") == ("32-true", "auto: bfloat16 is not tried on tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of("auto") == device_of("gpu") == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == "cpu"


def starts(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "run.json").read_text())["starts"]


def power_cut_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = FirstScreen.on_train_batch_start

    def show(self: FirstScreen, trainer: Any, *rest: Any) -> None:
        shown(self, trainer, *rest)
        if trainer.global_step == step:
            raise RuntimeError("power cut")

    monkeypatch.setattr(FirstScreen, "on_train_batch_start", show)


@pytest.mark.parametrize(("here", "there"), [BOTH, BOTH[::-1]])
def test_auto_is_recorded_and_kept_on_another_machine(
    here: str, there: str, fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as first_machine:
        known_rates.stub(first_machine, here)
        power_cut_at(5, first_machine)
        first = fit("--trainer.precision=auto")  # checkpoint_every: 3
    assert first.code == 1, first.err
    began = known_rates.PRECISION[here]
    assert f"precision {began} (auto: products here reach" in first.out
    (run,) = (run_folder / "runs").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "auto"
    known_rates.stub(monkeypatch, there)
    again = fit("--trainer.precision=auto")
    assert again.code == 0, again.err
    assert "resuming after step 3" in again.out
    assert f"precision {began} (auto when the run began; " in again.out
    assert ("slow on this processor" in again.out) == (there == "float32")
    assert list((run_folder / "runs").iterdir()) == [run]
    assert [start["precision"] for start in starts(run)] == [began, began]


def test_a_run_without_a_checkpoint_decides_anew(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as first_machine:
        known_rates.stub(first_machine, "bfloat16")
        power_cut_at(1, first_machine)
        fit("--trainer.precision=auto", "--run_dir=run")
    known_rates.stub(monkeypatch, "float32")
    assert fit("--trainer.precision=auto", "--run_dir=run", "--trainer.max_steps=12").code == 0
    assert [start["precision"] for start in starts(run_folder / "run")] == ["bf16-mixed", "32-true"]


def test_a_recipe_that_names_a_slow_precision_runs_with_one_line_about_it(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    known_rates.stub(monkeypatch, "float32")
    outcome = fit("--run_dir=run", "--trainer.precision=bf16-mixed", "--trainer.max_steps=2", "--model.warmup_steps=0")
    assert outcome.code == 0, outcome.err
    (line,) = (line for line in (outcome.out + outcome.err).splitlines() if "would take" in line)
    assert "precision bf16-mixed (as set; slow on this processor, auto would take 32-true: " in line
