"""With a callback that averages weights, the averages are what is judged and exported, also of a run that is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_helpers import equal, lines_of, state
from fit_parts import weight_of

from inbatch.models.encoder import Encoder

AVERAGING = (
    "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.%s, init_args: {%s use_buffers: false}}, "
    "{class_path: fit_parts.Recorded}, {class_path: fit_parts.FailWhenAsked}]"
)
CALLBACKS = {
    "exponential": AVERAGING % ("EMAWeightAveraging", "decay: 0.5,"),
    "every other step": AVERAGING % ("EMAWeightAveraging", "decay: 0.5, update_every_n_steps: 2,"),
    "from a step on": AVERAGING % ("EMAWeightAveraging", "decay: 0.9, update_starting_at_step: 3,"),
    "equal": AVERAGING % ("WeightAveraging", ""),
}
JUDGED = ("--evaluators.pair.class_path=fit_parts.Weight", "--evaluate_every=4")
SHORT = ("--trainer.max_steps=8", "--checkpoint_every=3")


def expected(kind: str, weights: list[float]) -> list[float]:
    """The average after each step; torch's begins with the first weights that it is given."""
    averages: list[float] = []
    average, count = float("nan"), 0
    for step, weight in enumerate(weights):
        if {"every other step": step % 2 == 0, "from a step on": step >= 3}.get(kind, True):
            decay = {"equal": count / (count + 1), "from a step on": 0.9}.get(kind, 0.5)
            average = weight if count == 0 else decay * average + (1 - decay) * weight
            count += 1
        averages.append(average)
    return averages


def recorded(folder: Path) -> list[float]:
    """The weight after each step; what was done again counts once."""
    lines = [json.loads(line) for line in (folder / "recorded.jsonl").read_text().splitlines()]
    return list(dict(lines).values())


@pytest.mark.parametrize("kind", CALLBACKS)
def test_averages_are_judged_and_exported(fit: Callable[..., Any], run_folder: Path, kind: str):
    outcome = fit("--run_dir=run", CALLBACKS[kind], *SHORT, *JUDGED)
    assert outcome.code == 0, outcome.err
    weights = recorded(run_folder)
    averages = expected(kind, weights)
    assert abs(averages[-1] - weights[-1]) > 1e-5
    exported = weight_of(Encoder.from_pretrained(run_folder / "run" / "export"))
    assert exported == pytest.approx(averages[-1], abs=1e-6)
    judged = {
        line["step"]: line["val/pair/value"]
        for line in lines_of(run_folder / "run" / "metrics.jsonl")
        if "val/pair/value" in line
    }
    assert judged == {step: pytest.approx(averages[step - 1], abs=1e-6) for step in (4, 8)}
    result = json.loads((run_folder / "run" / "result.json").read_text())
    assert result["metrics"]["test/pair/value"] == pytest.approx(averages[-1], abs=1e-6)


def test_the_end_by_epochs_saves_weights_beside_their_average(fit: Callable[..., Any], run_folder: Path):
    by_epochs = ("--trainer.max_steps=-1", "--trainer.max_epochs=1", "--checkpoint_every=100")
    assert fit("--run_dir=run", CALLBACKS["exponential"], *by_epochs).code == 0
    found = state(run_folder / "run")
    assert found["global_step"] == 3
    weights, average = (found[part]["objective.log_scale"] for part in ("current_model_state", "state_dict"))
    assert weights != average


@pytest.mark.parametrize("adapters", [False, True])
def test_a_resumed_run_has_the_same_averages(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch, adapters: bool
):
    lora = ["--model.encoder.init_args.backbone.init_args.lora.rank=2"] if adapters else []
    options = (CALLBACKS["exponential"], *SHORT, *JUDGED, *lora)
    assert fit("--run_dir=whole", *options).code == 0
    monkeypatch.setenv("FAIL_AT_STEP", "6")
    assert fit("--run_dir=broken", *options).code == 1
    monkeypatch.delenv("FAIL_AT_STEP")
    assert fit("--run_dir=broken", *options).code == 0
    whole, broken = (run_folder / name for name in ("whole", "broken"))
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "inbatch"):
        assert equal(state(whole)[part], state(broken)[part]), part
    exports = [(run / "export" / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert exports[0] == exports[1]


def test_a_run_that_failed_behind_its_last_step_still_exports_the_average(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("no disk")))
        assert fit("--run_dir=run", CALLBACKS["exponential"], *SHORT).code == 1
    assert state(run_folder / "run")["global_step"] == 8
    assert fit("--run_dir=run", CALLBACKS["exponential"], *SHORT).code == 0
    exported = weight_of(Encoder.from_pretrained(run_folder / "run" / "export"))
    assert exported == pytest.approx(expected("exponential", recorded(run_folder))[-1], abs=1e-6)


def test_a_run_whose_time_was_over_goes_on_from_its_weights_and_not_from_the_average(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from inbatch.callbacks.max_time import MaxTime

    options = (CALLBACKS["exponential"], *SHORT, "--trainer.max_time=00:01:00:00")
    assert fit("--run_dir=whole", *options).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(MaxTime, "_over", lambda self: self._step == 5)
        assert fit("--run_dir=broken", *options).code == 75
    assert fit("--run_dir=broken", *options).code == 0
    for part in ("state_dict", "current_model_state"):
        assert equal(state(run_folder / "whole")[part], state(run_folder / "broken")[part]), part


def test_whole_numbers_would_be_cut_off():
    # Why use_buffers is refused: torch's average of equal whole numbers is not always the number.
    from torch.optim.swa_utils import get_ema_avg_fn

    positions = torch.arange(512)
    averaged = torch.empty_like(positions).copy_(get_ema_avg_fn(0.9)(positions, positions, torch.tensor(1)))
    assert not torch.equal(averaged, positions)
