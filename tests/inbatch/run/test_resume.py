"""A run that dies and is started again by the same command ends as if it had never died.

The default tests fork the command from a process that has imported everything; the slow ones start the program itself.
"""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import Forked, complete, complete_forked, equal, lines_of, start, state, steps_in, wait_for, write_run

# The best of one's own is chosen, too, so that its state must survive.
OPTIONS = (
    "--trainer.max_steps=16",
    "--checkpoint_every=4",
    "--evaluators.pair.class_path=fit_parts.Similarity",
    "--evaluate_every=5",
    "--monitor=val/pair/cosine",
    "--mode=min",
    # Time for a signal to hit between and inside of steps, and a checkpoint half-way to the disk.
    "--trainer.callbacks=[{class_path: fit_parts.Slow, init_args: {step_seconds: 0.04, save_seconds: 0.15}}]",
)


def moments() -> list[tuple[str, int]]:
    """Ten moments: as the numbers of a random step have been written, and while the n-th checkpoint is being written."""
    draw = random.Random(7)
    return [*(("step", draw.randrange(1, 15)) for _ in range(6)), *(("save", number) for number in (1, 2, 3, 5))]


QUICK = moments()[0:1] + moments()[7:9]
PARAMETERS = [pytest.param(*moment, False, id=f"{moment[0]}-{moment[1]}") for moment in QUICK] + [
    pytest.param(*moment, True, id=f"{moment[0]}-{moment[1]}-program", marks=pytest.mark.slow) for moment in moments()
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_run(folder)
    done = complete_forked(folder, "--run_dir=run", *OPTIONS)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def half_written(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob(".*.ckpt.*"))


def kill_at(run: Path, process: subprocess.Popen[str] | Forked, kind: str, number: int) -> None:
    """Kill once the numbers of a step are there, or inside of the n-th write of a checkpoint."""
    if kind == "step":
        wait_for(lambda: number in steps_in(run), process)
    else:
        for _ in range(number - 1):
            wait_for(lambda: half_written(run), process)
            wait_for(lambda: not half_written(run), process)
        wait_for(lambda: half_written(run), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def without_clock(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{tag: value for tag, value in line.items() if not tag.startswith("perf/")} for line in lines]


@pytest.mark.parametrize(("kind", "number", "program"), PARAMETERS)
def test_a_killed_run_ends_with_the_same_weights(
    undisturbed: Path, tmp_path: Path, kind: str, number: int, program: bool
):
    write_run(tmp_path)
    run = tmp_path / "run"
    kill_at(run, (start if program else Forked)(tmp_path, "--run_dir=run", *OPTIONS), kind, number)
    assert not (run / "result.json").exists()
    done = (complete if program else complete_forked)(tmp_path, "--run_dir=run", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert half_written(run) == []
    for name in ("last", "best"):
        a, b = state(undisturbed, name), state(run, name)
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "inbatch"):
            assert equal(a[part], b[part]), f"{part} of {name} differs"
    assert without_clock(lines_of(run / "metrics.jsonl")) == without_clock(lines_of(undisturbed / "metrics.jsonl"))
    assert (run / "export" / "model.safetensors").read_bytes() == (
        undisturbed / "export" / "model.safetensors"
    ).read_bytes()


def test_a_killed_run_of_adapters_goes_on_exactly_and_keeps_no_frozen_weight(tmp_path: Path):
    backbone = (
        "--model.encoder.init_args.backbone.init_args={kind: llama, num_layers: 1, learned_tokens: 2, "
        "lora: {rank: 2, dropout: 0.2}, gradient_checkpointing: true}"
    )
    prompts = '--model.encoder.init_args.prompts={query: "{text} in short:{learned}", document: "{text}{learned}"}'
    options = (*OPTIONS[:2], *OPTIONS[-1:], backbone, prompts, "--model.encoder.init_args.pooling=learned")
    states = []
    for name in ("undisturbed", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        write_run(folder)
        if name == "killed":
            kill_at(folder / "run", Forked(folder, "--run_dir=run", *options), "step", 9)
        done = complete_forked(folder, "--run_dir=run", *options)
        assert done.returncode == 0, done.stderr
        states.append(state(folder / "run"))
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "inbatch"):
        assert equal(states[0][part], states[1][part]), f"{part} differs"
    names = set(states[0]["state_dict"])
    assert all("lora_" in name or "learned_tokens" in name or "objective" in name for name in names)
    exports = [tmp_path / name / "run" / "export" / "model.safetensors" for name in ("undisturbed", "killed")]
    assert exports[0].read_bytes() == exports[1].read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        (
            "--model.objective=inbatch.losses.contrastive.momentum_queue.MomentumQueue",
            "--model.objective.init_args.queue_size=20",
        ),
        (
            "--trainer.precision=bf16-true",
            "--model.encoder.init_args.backbone.init_args={kind: llama, num_layers: 1, lora: {rank: 2}}",
        ),
    ],
    ids=["averages", "half precision"],
)
def test_runs_with_side_networks_or_whole_casts_go_on_and_finish_with_the_best(
    tmp_path: Path, options: tuple[str, ...]
):
    write_run(tmp_path)
    run = tmp_path / "run"
    kill_at(run, Forked(tmp_path, "--run_dir=run", *OPTIONS, *options), "step", 9)
    done = complete_forked(tmp_path, "--run_dir=run", *OPTIONS, *options)
    assert done.returncode == 0, done.stderr
    assert (run / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stopped_run_leaves_a_checkpoint_and_is_resumed(undisturbed: Path, tmp_path: Path, signum: int, code: int):
    write_run(tmp_path)
    run = tmp_path / "run"
    process = Forked(tmp_path, "--run_dir=run", *OPTIONS)
    wait_for(lambda: 9 in steps_in(run), process)
    process.send_signal(signum)
    _, err = process.communicate()
    assert process.returncode == code
    assert "the same command resumes" in err
    assert "Traceback" not in err
    step = state(run)["global_step"]
    assert step in (9, 10)
    done = complete_forked(tmp_path, "--run_dir=run", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert f"resuming after step {step}" in done.stdout
    assert equal(state(undisturbed)["state_dict"], state(run)["state_dict"])


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path):
    write_run(tmp_path)
    slow = "--trainer.callbacks=[{class_path: fit_parts.Slow, init_args: {save_seconds: 60}}]"
    process = Forked(tmp_path, "--run_dir=run", slow)
    # The checkpoint takes a minute, and the first signal waits for it: nothing but the second can end the program.
    wait_for(lambda: half_written(tmp_path / "run"), process)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "saving the state before this step" in process.streams[1].read_text(), process)
    process.send_signal(signal.SIGINT)
    process.communicate(10)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("signum", "code", "said"),
    [
        (signal.SIGTERM, 75, "SIGTERM: stopped outside of the training; the same command resumes."),
        (signal.SIGINT, 130, "inbatch: interrupted"),
    ],
)
def test_a_run_stopped_after_its_training_is_only_judged_again(tmp_path: Path, signum: int, code: int, said: str):
    write_run(tmp_path)
    options = ("--run_dir=run", "--trainer.max_steps=2", "--evaluators.pause.class_path=fit_parts.Pause")
    process = Forked(tmp_path, *options)
    wait_for(lambda: (tmp_path / "judging").exists(), process)
    process.send_signal(signum)
    _, err = process.communicate()
    assert process.returncode == code
    assert said in err
    assert "Traceback" not in err
    assert state(tmp_path / "run")["global_step"] == 2
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_run_stopped_before_its_training_leaves_nothing(tmp_path: Path, signum: int, code: int):
    write_run(tmp_path)
    process = Forked(tmp_path, "--run_dir=run", "--trainer.callbacks=fit_parts.SlowStart")
    wait_for(lambda: (tmp_path / "preparing").exists(), process)
    process.send_signal(signum)
    _, err = process.communicate(30)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
