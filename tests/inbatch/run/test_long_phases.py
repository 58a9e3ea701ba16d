"""Whatever takes long in a run says so, on a terminal and in a log, and what is short says little."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fit_helpers import complete_forked, environment, write_run

OPTIONS = (
    "--run_dir=run",
    "--trainer.max_steps=4",
    "--trainer.enable_progress_bar=true",
    "--model.encoder.init_args.backbone={class_path: fit_parts.Sleepy, init_args: {num_layers: 1}}",
    "--trainer.callbacks=[{class_path: fit_parts.Place}, {class_path: fit_parts.Hurried}]",
    "--evaluators.pair.class_path=fit_parts.SleepyEvaluator",
    "--evaluate_every=2",
)


def on_terminal(folder: Path, *arguments: str) -> str:
    """Run the command on a terminal of its own, and return what it shows there."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("inbatch")), "fit", "--config", "tiny.yaml", *arguments]
    variables = {**environment(), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, cwd=folder, env=variables, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


@pytest.mark.parametrize(
    ("sleep", "line"),
    [
        ("forward 2 0 0.8", r"step 2/4  forward [1-3]/\d chunks  0:0\d"),
        ("backward 3 0 0.8", r"step 3/4  backward [1-3]/\d chunks  0:0\d"),
        ("evaluation 2 0 1.5", r"evaluating after step 4  0:0\d"),
    ],
)
def test_a_log_gets_whole_lines_while_something_takes_long(tmp_path: Path, sleep: str, line: str):
    write_run(tmp_path)
    (tmp_path / "sleep").write_text(sleep)
    done = complete_forked(tmp_path, *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert any(re.fullmatch(line, shown) for shown in done.stderr.splitlines()), done.stderr
    assert not re.search("[\r\x1b]", done.stderr)


def test_a_run_without_a_bar_says_nothing_of_it(tmp_path: Path):
    write_run(tmp_path)
    (tmp_path / "sleep").write_text("forward 2 0 0.8")
    done = complete_forked(tmp_path, *OPTIONS, "--trainer.enable_progress_bar=false")
    assert done.returncode == 0, done.stderr
    assert "step 2/4" not in done.stderr


def test_a_terminal_shows_the_chunks_on_the_bar(tmp_path: Path):
    write_run(tmp_path)
    (tmp_path / "sleep").write_text("forward 2 0 0.8")
    shown = on_terminal(tmp_path, *OPTIONS)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"step 1/4 .* loss .* forward 1/\d  0:0\d", plain)
    assert "step 2/4  forward" not in plain  # no line that breaks the bar
    assert re.search(r"step 4/4 .* loss ", plain)
