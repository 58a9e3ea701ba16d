"""A tiny run for tests of `inbatch fit`: its configuration, the command, and what a run has left."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inbatch.cli import main

ROWS = 40  # with batches of 16: two full ones and a partial one an epoch

CONFIG = """
trainer: {accelerator: cpu, max_steps: 12, log_every_n_steps: 1, enable_progress_bar: false}
model:
  encoder:
    class_path: Encoder
    init_args:
      backbone: {class_path: TinyRandom, init_args: {num_layers: 1}}
  objective: {class_path: InfoNCE, init_args: {learn_temperature: true}}
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.003}}
  schedule: linear
  warmup_steps: 2
  chunk_tokens: 128
data: {sources: pairs.csv, batch_size: 16, max_length: 16}
checkpoint_every: 3
"""


def write_run(folder: Path) -> Path:
    """Write ``tiny.yaml`` and the pairs that it trains on; return the former's path."""
    rows = [f"{i} plus {i * i}?,{i + i * i} it is" for i in range(ROWS)]
    (folder / "pairs.csv").write_text("anchor,positive\n" + "\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(CONFIG)
    return folder / "tiny.yaml"


def environment() -> dict[str, str]:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start(folder: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start ``inbatch fit --config tiny.yaml`` in ``folder`` as a process of its own."""
    command = [*launcher, str(Path(sys.executable).with_name("inbatch")), "fit", "--config", "tiny.yaml", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def complete(folder: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    process = start(folder, *arguments, launcher=launcher)
    out, err = process.communicate(timeout=200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Forked:
    """``inbatch fit --config tiny.yaml`` in a process forked from one that has imported everything, which saves the seconds.

    Has of `subprocess.Popen` what the tests use; the process gets signals and dies as any other.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["fit_helpers", "fit_parts", "inbatch.run.fit", "datasets", "torch.utils.tensorboard"]
        )
        self.args = arguments
        self.streams = (folder / "stdout.txt", folder / "stderr.txt")
        words = ("fit", "--config", "tiny.yaml", *arguments)
        self.process = context.Process(target=_forked, args=(folder, words, self.streams))
        self.process.start()
        self.pid = self.process.pid
        self.kill = self.process.kill

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, signum: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, signum)

    def communicate(self, timeout: float = 100) -> tuple[str, str]:
        self.process.join(timeout)
        assert self.returncode is not None, "still running"
        out, err = (path.read_text() if path.exists() else "" for path in self.streams)
        return out, err


def _forked(folder: Path, words: tuple[str, ...], streams: tuple[Path, Path]) -> None:
    os.chdir(folder)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    sys.exit(main(list(words)))


def complete_forked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = Forked(folder, *arguments)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def wait_for(condition: Any, process: subprocess.Popen[str] | Forked | None = None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended early with {process.returncode}: {process.communicate()}")
        time.sleep(0.005)


def steps_in(run: Path) -> list[int]:
    """The steps that metrics.jsonl holds so far."""
    path = run / "metrics.jsonl"
    return [line["step"] for line in lines_of(path)] if path.exists() else []


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def equal(a: Any, b: Any) -> bool:
    """Bitwise equality of nested states."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return a == b or (a != a and b != b)
