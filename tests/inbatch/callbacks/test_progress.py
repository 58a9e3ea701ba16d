from __future__ import annotations

import re
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inbatch import activity
from inbatch.callbacks import progress
from inbatch.callbacks.progress import Progress, total_steps
from inbatch.kernels.caching import map_in_chunks


def trainer(max_steps: int = 10) -> Any:
    return SimpleNamespace(global_step=0, lightning_module=SimpleNamespace(steps=lambda: max_steps))


MODULE: Any = SimpleNamespace(metrics={"train/loss": 1.25, "perf/sentences_per_s": 1234.5})


def run(shown: Progress, given: Any, steps: int, pause: Any = lambda: None) -> None:
    shown.on_train_start(given, MODULE)
    for _ in range(steps):
        shown.on_train_batch_start(given, MODULE, None, 0)
        pause()
        given.global_step += 1
        shown.on_train_batch_end(given, MODULE, None, None, 0)
        shown.on_train_batch_end(given, MODULE, None, None, 0)  # a batch that only accumulates
    shown.teardown(given, MODULE, "fit")


def test_plain_lines_come_at_the_first_and_last_step_and_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = [1.0]
    monkeypatch.setattr(activity.time, "monotonic", lambda: now[0])
    run(Progress(), trainer(), steps=10, pause=lambda: now.append(now.pop() + 2))  # two seconds a step
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 1/10  loss 1.2500  1,234 sentences/s  ETA 0:18"
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "7/10", "10/10"]


def test_a_run_without_a_known_end_shows_steps_only(capsys: pytest.CaptureFixture[str]):
    run(Progress(), trainer(max_steps=-1), steps=1)
    assert capsys.readouterr().err == "step 1  loss 1.2500  1,234 sentences/s\n"


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]):
    shown = Progress()
    shown.disable()
    run(shown, trainer(), steps=2)
    assert capsys.readouterr().err == ""
    shown.enable()
    run(shown, trainer(), steps=1)
    assert "step 1/10" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown = Progress()
    run(shown, trainer(), steps=3)
    err = capsys.readouterr().err
    assert "3/10" in err
    assert "loss 1.2500" in err
    shown.on_exception(trainer(), MODULE, ValueError())


def test_a_bar_knows_the_time_left_however_long_a_step_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown, given = Progress(), trainer()
    shown.on_train_start(given, MODULE)
    for _ in range(2):
        shown.on_train_batch_start(given, MODULE, None, 0)
        shown._start -= 60  # the step took a minute
        given.global_step += 1
        shown.on_train_batch_end(given, MODULE, None, None, 0)
        assert shown._bar.tasks[0].fields["numbers"].endswith(f"  ETA {10 - given.global_step}:00")
    shown.teardown(given, MODULE, "fit")
    assert "ETA 8:00" in capsys.readouterr().err


@pytest.mark.parametrize(("steps", "total"), [(7, 7), (0, None), (-1, None)])
def test_total_steps(steps: int, total: int | None):
    assert total_steps(trainer(max_steps=steps)) == total


def chunks(seen: list[str]) -> None:
    """Run forward and backward in three chunks, and note what is said before each."""
    x = torch.ones(3, 1, requires_grad=True)

    def double(rows: Tensor) -> Tensor:
        seen.append(activity.now())
        return (2 * rows).exp()

    map_in_chunks(double, x, budget=1).sum().backward()


@pytest.mark.parametrize("given", [{}, {"max_steps": -1}], ids=["an end", "no end"])
def test_within_a_step_the_chunks_of_each_pass_are_counted(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    now, seen = [100.0], []
    monkeypatch.setattr(activity.time, "monotonic", lambda: now[0])
    shown, runner = Progress(), trainer(**given)
    shown.on_train_start(runner, MODULE)
    shown.on_train_batch_start(runner, MODULE, None, 0)
    now[0] += 75
    chunks(seen)
    of = "" if given else "/10"
    passes = ["forward 0/3", "forward 1/3", "forward 2/3", "backward 1/3", "backward 2/3"]
    assert seen == [f"step 1{of}  {text} chunks  1:15" for text in passes]
    shown.on_train_batch_end(runner, MODULE, None, None, 0)  # only accumulates
    shown.on_train_batch_start(runner, MODULE, None, 1)
    assert activity.now() == f"step 1{of} batch 2  0:00"
    runner.global_step = 1
    shown.on_train_batch_end(runner, MODULE, None, None, 1)
    assert activity.now() == f"step 2{of}  0:00"
    shown.teardown(runner, MODULE, "fit")
    assert activity.now() == ""
    chunks(seen)
    assert seen[-1] == ""


@pytest.mark.parametrize("width", [80, 120])
def test_what_a_bar_shows_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    numbers = "loss 1.2500  1,234 sentences/s  ETA 1:18:02"
    with activity.doing(lambda: "backward 12/140  0:35"):
        bar = progress._bar(1000, 12)
        bar.start()
        bar.update(bar.task_ids[0], numbers=numbers)
        bar.stop()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    last = plain.rstrip().split("\n")[-1].split("\r")[-1]
    assert re.fullmatch(rf"step +12/1000 .*{numbers} backward 12/140  0:35", last), last
    assert len(last) <= width


def test_a_terminal_shows_the_chunks_beside_the_bar_and_no_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(activity, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    shown, given = Progress(), trainer()
    with activity.spoken():
        shown.on_train_start(given, MODULE)
        shown.on_train_batch_start(given, MODULE, None, 0)
        chunks([])
        time.sleep(0.5)
        shown.teardown(given, MODULE, "fit")
    err = capsys.readouterr().err
    assert "backward 2/3  0:0" in err
    assert "step 1/10" not in err
