"""Two ranks on the CPU compute what one process computes, however they are launched."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from fit_helpers import complete, complete_forked, lines_of, start, state, steps_in, wait_for, write_run

from inbatch.run.fit import CHOSEN_FOLDER

# SGD, because Adam would blow up the rounding errors of gradients that are zero (an attention's key biases).
OPTIONS = (
    "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.01}}",
    "--model.encoder.init_args.backbone.init_args.dropout=0.0",
)
TWO = ("--trainer.strategy=ddp", "--trainer.devices=2")
# --standalone takes a free port: with the default one, two runs on one machine meet in one store and wait for each other.
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--standalone", "--no-python", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one process has run."""
    folder = tmp_path_factory.mktemp("ddp")
    write_run(folder)
    done = complete_forked(folder, "--run_dir=one", *OPTIONS)
    assert done.returncode == 0, done.stderr
    return folder


def same_run(folder: Path, name: str) -> None:
    one, two = state(folder / "one")["state_dict"], state(folder / name)["state_dict"]
    for key, value in one.items():
        assert (value - two[key]).abs().max() < 1e-5, key
    for a, b in zip(lines_of(folder / "one" / "metrics.jsonl"), lines_of(folder / name / "metrics.jsonl"), strict=True):
        tags = ("loss", "grad_norm", "samples_seen", "negatives_per_anchor", "positive_similarity", "temperature")
        for tag in ("step", *(f"train/{tag}" for tag in tags)):
            assert a[tag] == pytest.approx(b[tag], rel=1e-5, abs=1e-5), (a["step"], tag)


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["started by the trainer", "torchrun"])
def test_two_ranks_equal_one_process(folder: Path, launcher: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CHOSEN_FOLDER, "1 elsewhere")  # left in the environment by some other run
    name = "torchrun" if launcher else "trainer"
    done = complete(folder, f"--run_dir={name}", *OPTIONS, *TWO, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert "2 ranks" in done.stdout
    assert done.stdout.count("info_nce") == 1  # only rank 0 prints
    same_run(folder, name)
    again = complete(folder, f"--run_dir={name}", *OPTIONS, *TWO, launcher=launcher)
    assert again.returncode == 0
    assert again.stdout.count("finished before") == 1


def test_sigterm_stops_all_ranks_after_a_checkpoint_and_one_process_goes_on(folder: Path):
    slow = "--trainer.callbacks=[{class_path: fit_parts.Slow, init_args: {step_seconds: 0.3}}]"
    process = start(folder, "--run_dir=stopped", *OPTIONS, *TWO, slow)
    run = folder / "stopped"
    wait_for(lambda: 2 in steps_in(run), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert state(run)["global_step"] >= 2
    done = complete_forked(
        folder, "--run_dir=stopped", *OPTIONS, slow
    )  # dropout is off, so the ranks make no difference
    assert done.returncode == 0, done.stderr
    same_run(folder, "stopped")


def test_sigterm_in_an_evaluation_stops_all_ranks_at_once_and_it_is_done_again(tmp_path: Path):
    options = (*OPTIONS, "--evaluators.pair.class_path=fit_parts.SleepyEvaluator", "--evaluate_every=2")
    write_run(tmp_path)
    (tmp_path / "sleep").write_text("evaluation 2 0 300")
    process = start(tmp_path, "--run_dir=run", *options, *TWO)
    wait_for(lambda: (tmp_path / "inside").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "stopped after step 4, which is saved" in err
    (tmp_path / "sleep").unlink()
    done = complete_forked(tmp_path, "--run_dir=run", *options)
    assert done.returncode == 0, done.stderr
    evaluated = [line["step"] for line in lines_of(tmp_path / "run" / "metrics.jsonl") if "val/pair/cosine" in line]
    assert evaluated == [2, 4, 6, 8, 10, 12]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--evaluators.a.class_path=fit_parts.BrokenEvaluator", "--evaluate_every=2"), 1),
        (("--model.objective={class_path: fit_parts.NanAt, init_args: {step: 3}}",), 4),
        (("--model.objective.class_path=fit_parts.WithUnused",), 4),
    ],
    ids=["evaluator", "loss", "unused"],
)
def test_a_failure_stops_all_ranks(folder: Path, options: tuple[str, ...], code: int):
    done = complete(folder, "--run_dir=failed-" + str(abs(hash(options))), *OPTIONS, *TWO, *options)
    assert done.returncode == code, done.stderr


@pytest.mark.slow
def test_fresh_is_refused_where_processes_start_side_by_side(folder: Path):
    done = complete(folder, "--run_dir=one", "--fresh=true", *OPTIONS, *TWO, launcher=TORCHRUN)
    assert done.returncode == 1
    assert "--fresh cannot be agreed on" in done.stderr
