"""SIGTERM and Ctrl-C act within a step, whatever it computes; the checkpoint is that of the step before, and the step is done again."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_helpers import Forked, complete_forked, equal, lines_of, start, state, wait_for, write_run

OPTIONS = (
    "--run_dir=run",
    "--trainer.max_steps=6",
    "--model.encoder.init_args.backbone={class_path: fit_parts.Sleepy, init_args: {num_layers: 1}}",
    "--trainer.callbacks=[{class_path: fit_parts.Place}, {class_path: fit_parts.Counting}]",
)
OBJECTIVE = "--model.objective={class_path: %s, init_args: {%s}}"
BATCH_NORM = OBJECTIVE % (
    "InfoNCE",
    "projector: {class_path: BatchNormProjector, init_args: {in_features: 32}}",
)
KINDS: dict[str, tuple[str, ...]] = {
    "dropout": (),
    "batch norm": (BATCH_NORM,),
    "queue": (OBJECTIVE % ("MomentumQueue", "queue_size: 20"),),
    "accumulation": (BATCH_NORM, "--trainer.accumulate_grad_batches=2"),
    "evaluation": (
        "--evaluators.pair.class_path=fit_parts.SleepyEvaluator",
        "--evaluate_every=2",
        "--evaluate_first=true",
        "--monitor=val/pair/cosine",
        "--mode=min",
    ),
}
STATES = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "inbatch")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the folder of a kind's run that nothing has stopped, with the checkpoint of each step; each is made once."""
    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            folder = made[kind] = tmp_path_factory.mktemp("undisturbed")
            write_run(folder)
            (folder / "keep").touch()
            done = complete_forked(folder, *OPTIONS, *KINDS[kind], "--checkpoint_every=1")
            assert done.returncode == 0, done.stderr
        return made[kind] / "run"

    return run


def stop(folder: Path, sleep: str, signum: int, *options: str) -> tuple[str, float]:
    """Stop a run where it sleeps; return what it says, and the seconds from the signal to its end."""
    write_run(folder)
    (folder / "sleep").write_text(sleep)
    process = Forked(folder, *OPTIONS, *options)
    wait_for(lambda: (folder / "inside").exists(), process)
    sent = time.monotonic()
    process.send_signal(signum)
    _, err = process.communicate()
    assert process.returncode == {signal.SIGTERM: 75, signal.SIGINT: 130}[signal.Signals(signum)], err
    assert "Traceback" not in err
    (folder / "sleep").unlink()
    return err, time.monotonic() - sent


def same_end(folder: Path, reference: Path, *options: str) -> None:
    """Give the command again; what it ends with is what the undisturbed run has ended with."""
    done = complete_forked(folder, *OPTIONS, *options)
    assert done.returncode == 0, done.stderr
    for name in ["last", *(["best"] if (reference / "checkpoints" / "best.ckpt").exists() else [])]:
        a, b = state(reference, name), state(folder / "run", name)
        assert all(equal(a[part], b[part]) for part in STATES)
    numbers = [
        [{tag: value for tag, value in line.items() if not tag.startswith("perf/")} for line in lines_of(path)]
        for path in (reference / "metrics.jsonl", folder / "run" / "metrics.jsonl")
    ]
    assert numbers[0] == numbers[1]
    exports = [run / "export" / "model.safetensors" for run in (reference, folder / "run")]
    assert exports[0].read_bytes() == exports[1].read_bytes()


@pytest.mark.parametrize(
    ("kind", "sleep", "signum"),
    [
        ("dropout", "forward 4 0 0.5", signal.SIGTERM),
        ("dropout", "backward 3 0 0.5", signal.SIGINT),
        ("batch norm", "backward 4 0 0.5", signal.SIGTERM),
        ("queue", "backward 5 0 0.5", signal.SIGTERM),
        ("accumulation", "forward 3 1 0.5", signal.SIGINT),
        ("accumulation", "backward 5 1 0.5", signal.SIGTERM),
    ],
)
def test_a_step_that_is_cut_short_is_done_again(undisturbed: Any, tmp_path: Path, kind: str, sleep: str, signum: int):
    reference, before = undisturbed(kind), int(sleep.split()[1]) - 1
    said, seconds = stop(tmp_path, sleep, signum, *KINDS[kind])
    assert f"stopped after step {before}, which is saved; the same command resumes." in said
    assert seconds < 15
    expected = torch.load(reference / "checkpoints" / f"step-{before}.ckpt", weights_only=True)
    found = state(tmp_path / "run")
    assert found.keys() == expected.keys()
    for part in expected:
        assert equal(found[part], expected[part]), part
    same_end(tmp_path, reference, *KINDS[kind])


@pytest.mark.parametrize(("kind", "signum"), [("dropout", signal.SIGTERM), ("evaluation", signal.SIGINT)])
def test_stopped_in_its_first_step_a_run_starts_over(undisturbed: Any, tmp_path: Path, kind: str, signum: int):
    said, _ = stop(tmp_path, "forward 1 0 60", signum, *KINDS[kind])
    assert "stopped before the first step was done, so nothing is saved; the same command starts over." in said
    assert (tmp_path / "run").exists() == (kind == "evaluation")  # which had been measured before
    same_end(tmp_path, undisturbed(kind), *KINDS[kind])


@pytest.mark.parametrize(
    ("call", "signum", "saved"),
    [(1, signal.SIGTERM, 0), (2, signal.SIGINT, 2), (3, signal.SIGTERM, 4), (4, signal.SIGTERM, 6)],
    ids=["first", "one that improves", "within", "last"],
)
def test_an_evaluation_that_is_cut_short_is_done_again(
    undisturbed: Any, tmp_path: Path, call: int, signum: int, saved: int
):
    said, seconds = stop(tmp_path, f"evaluation {call} 0 60", signum, *KINDS["evaluation"])
    assert ("nothing is saved" if saved == 0 else f"stopped after step {saved}, which is saved") in said
    assert seconds < 15
    same_end(tmp_path, undisturbed("evaluation"), *KINDS["evaluation"])


def test_a_step_of_three_minutes_is_left_within_seconds_and_done_again(undisturbed: Any, tmp_path: Path):
    """The program itself, with a slow network: 7 chunks of 26 seconds each. It goes on with a fast one, to the same bits."""
    write_run(tmp_path)
    (tmp_path / "sleep").write_text("backward 2 0 26")
    process = start(tmp_path, *OPTIONS)
    wait_for(lambda: (tmp_path / "inside").exists(), process)
    time.sleep(1)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 15
    assert process.returncode == 75, err
    assert state(tmp_path / "run")["global_step"] == 1
    (tmp_path / "sleep").unlink()
    same_end(tmp_path, undisturbed("dropout"))
