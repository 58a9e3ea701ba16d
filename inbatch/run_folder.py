"""The folder of one run: which configuration it belongs to, who is writing it, how far it came, what came out.

Holds ``config.yaml``, ``run.json`` (command, commit, versions and seed of every start), ``metrics.jsonl``, TensorBoard events,
``checkpoints/``, ``export/`` and, once the run is finished, ``result.json``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from inbatch.errors import UsageError
from inbatch.files import replace_file

# What changes where and how fast a run is computed and how often it reports, but not what it computes.
WITHOUT_EFFECT = (
    *("config", "run_dir", "fresh", "accept_changed_data", "checkpoint_every", "data.num_workers"),
    *(
        f"trainer.{name}"
        for name in ("accelerator", "devices", "num_nodes", "strategy", "default_root_dir", "profiler")
    ),
    *(f"trainer.{name}" for name in ("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary")),
    *(f"trainer.{name}" for name in ("enable_checkpointing", "enable_autolog_hparams", "model_registry", "max_time")),
)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a configuration to dotted keys and leave out what does not change the mathematics.

    Example:
        >>> identity({"run_dir": "runs/mine", "trainer": {"devices": 2, "max_steps": 200}, "data": {"batch_size": 64}})
        {'trainer.max_steps': 200, 'data.batch_size': 64}
    """

    def flatten(node: Any, prefix: str) -> dict[str, Any]:
        if prefix in WITHOUT_EFFECT:
            return {}
        if isinstance(node, Mapping) and node:
            parts = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
            return {key: value for part in parts for key, value in part.items()}
        return {prefix: node}

    return flatten(config, "")


def digest(config: Mapping[str, Any]) -> str:
    """Return 8 hexadecimal digits that differ between configurations that compute different things.

    Example:
        >>> one, two = ({"trainer": {"devices": devices}, "data": {"batch_size": 64}} for devices in (1, 2))
        >>> len(digest(one)), digest(one) == digest(two), digest(one) == digest({"data": {"batch_size": 32}})
        (8, True, False)
    """
    text = json.dumps(identity(config), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return ``key: old -> new`` for each key of the identity that differs.

    Example:
        >>> differing_keys({"data": {"batch_size": 64}}, {"data": {"batch_size": 32, "max_length": 32}})
        ['data.batch_size: 64 -> 32', 'data.max_length: absent -> 32']
    """
    a, b = identity(old), identity(new)
    absent = "absent"
    keys = sorted(key for key in {*a, *b} if a.get(key, absent) != b.get(key, absent))
    return [f"{key}: {a.get(key, absent)} -> {b.get(key, absent)}" for key in keys]


class RunFolder:
    """One run's folder, not touched before `claim`.

    Args:
        path: where it lies or will lie.

    Example:
        >>> folder = RunFolder("my-run")
        >>> folder.claim({"data": {"batch_size": 64}})
        >>> folder.record("data: {batch_size: 64}", {"precision": "32-true"})
        >>> folder.recorded("precision")
        '32-true'
        >>> RunFolder("my-run").claim({"data": {"batch_size": 32}})  # the same folder for another run
        Traceback (most recent call last):
        inbatch.errors.UsageError: my-run belongs to another configuration (data.batch_size: 64 -> 32).
        Set --run_dir to another folder, or --fresh to start beside it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.export = self.path / "export"
        self.metrics = self.path / "metrics.jsonl"
        self._lock: IO[str] | None = None
        self._created = False

    @classmethod
    def choose(cls, config: Mapping[str, Any], name: str, run_dir: str | None = None, fresh: bool = False) -> RunFolder:
        """Return the folder ``run_dir``, or ``runs/<name>-<digest>``; with ``fresh`` the first free one beside it."""
        path = Path(run_dir) if run_dir else Path("runs") / f"{name}-{digest(config)}"
        if fresh:
            beside = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
            path = next(p for p in itertools.chain([path], beside) if not p.exists())
        return cls(path)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Make the folder if need be and take its lock, which the system releases when this process ends.

        Raises:
            UsageError: if the folder belongs to another configuration, is no run folder, or is in use by a live run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"expected a folder; {self.path} is a file. Set --run_dir.")
        self._created = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(
                f"expected a folder that can be written; got {self.path}: {error.strerror}. Set --run_dir."
            ) from None
        if not self._file("config.yaml").exists():
            if foreign := sorted(
                p.name for p in self.path.iterdir() if p.name != ".lock" and p not in self._leftovers()
            ):
                self._file(".lock").unlink()
                raise UsageError(
                    f"expected a new, an empty or a run folder; {self.path} holds {foreign[0]} and no config.yaml. Set --run_dir."
                )
        elif changed := differing_keys(yaml.safe_load(self._file("config.yaml").read_text(encoding="utf8")), config):
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise UsageError(
                f"{self.path} belongs to another configuration ({'; '.join(changed[:5])}{more}). "
                "Set --run_dir to another folder, or --fresh to start beside it."
            )
        for leftover in self._leftovers():
            leftover.unlink()

    def _leftovers(self) -> list[Path]:
        """List what was being written by `replace_file` when its process died."""
        names = [self._file(name) for name in ("config.yaml", "run.json", "result.json", self.metrics.name)]
        names += [self.checkpoints / name for name in ("last.ckpt", "best.ckpt")]
        return [p for name in names for p in name.parent.glob(f".{name.name}.*") if p.is_file()]

    def _take_lock(self) -> None:
        # POSIX record locks: unlike flock they are not inherited by worker processes that may outlive this one.
        lock = self._file(".lock").open("a+", encoding="utf8")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                lock.close()
                self._created = False
                raise UsageError(
                    f"a live run holds {self.path} ({holder}). Wait for it, or set --run_dir or --fresh."
                ) from None
            # The file system has no locks, or none at the moment.
            print(
                f"{self.path} cannot be locked ({error.strerror}): two live runs in it are not prevented",
                file=sys.stderr,
            )
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        self._lock = lock

    def record(self, config_text: str, facts: Mapping[str, Any]) -> None:
        """Write the configuration at the first start, and add this start's facts to ``run.json``."""
        self.checkpoints.mkdir(exist_ok=True)
        if not self._file("config.yaml").exists():
            with replace_file(self._file("config.yaml")) as file:
                file.write(config_text.encode())
        self._write_json("run.json", {"starts": [*self.starts(), dict(facts)]})

    def starts(self) -> list[dict[str, Any]]:
        """Return the facts of each start so far."""
        path = self._file("run.json")
        return json.loads(path.read_text(encoding="utf8"))["starts"] if path.exists() else []

    def recorded(self, fact: str) -> Any:
        """Return a fact, such as ``precision``, of the last start that noted it; None if none did."""
        return next((start[fact] for start in reversed(self.starts()) if fact in start), None)

    def result(self) -> dict[str, Any] | None:
        """Return what the finished run reported; None if it is not finished."""
        path = self._file("result.json")
        return json.loads(path.read_text(encoding="utf8")) if path.exists() else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished."""
        self._write_json("result.json", result)

    def keep_traceback(self) -> str:
        """Append the traceback of the exception that is being handled to ``error.txt``; say where it is, or why it is not."""
        path = self._file("error.txt")
        try:
            with path.open("a", encoding="utf8") as file:
                file.write(traceback.format_exc() + "\n")
        except OSError as error:
            return f"no traceback, as {path} cannot be written: {error.strerror}"
        return f"traceback in {path}"

    def discard_if_new(self, keep: bool = False) -> None:
        """Remove the folder if this process made it and nothing was measured or saved: a refused run leaves nothing behind."""
        measured = self.metrics.exists() and self.metrics.stat().st_size > 0
        if self._created and not keep and not measured and not any(self.checkpoints.glob("*.ckpt")):
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # others' runs are in it
                self.path.parent.rmdir() if self.path.parent.name == "runs" else None

    def _file(self, name: str) -> Path:
        return self.path / name

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with replace_file(self._file(name)) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")
