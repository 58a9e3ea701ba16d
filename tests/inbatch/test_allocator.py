from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inbatch import allocator, cli

CALLS: list[tuple[int, int]] = []


class Library:
    """A C library whose mallopt takes everything."""

    def __init__(self, path: Any) -> None:
        assert path is None

    def mallopt(self, parameter: int, value: int) -> int:
        CALLS.append((parameter, value))
        return 1


@pytest.fixture(autouse=True)
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


def test_large_blocks_come_from_the_heap_which_is_not_given_back():
    assert allocator.keep_freed_memory()
    assert CALLS == [(-3, 1 << 30), (-1, 1 << 30)]


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_user_has_tuned_stays(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "1")
    assert not allocator.keep_freed_memory()
    assert CALLS == []


def test_another_system_or_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())  # musl has no mallopt
    assert not allocator.keep_freed_memory()


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: found.append((path, words)))
    monkeypatch.setattr(allocator, "_NVIDIA", Path("/nosuch"))
    monkeypatch.setattr(allocator, "_is_glibc", lambda: True)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "bin/inbatch", "fit"])
    return found


def test_a_program_is_started_again_as_it_was_and_only_once(restarts: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", {"HOME": "here"})
    allocator.restart_tuned()
    assert restarts == [(sys.executable, [sys.executable, "-u", "bin/inbatch", "fit"])]
    assert "glibc.malloc.tcache_count=0" in os.environ["GLIBC_TUNABLES"].split(":")
    allocator.restart_tuned()
    assert len(restarts) == 1


@pytest.mark.parametrize("why", ["tuned", "another library", "a GPU"])
def test_a_program_is_not_started_again(restarts: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str):
    if why == "tuned":
        monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    elif why == "a GPU":
        monkeypatch.setattr(allocator, "_NVIDIA", tmp_path)
    else:
        monkeypatch.setattr(allocator, "_is_glibc", lambda: False)
    allocator.restart_tuned()
    assert restarts == []


def test_a_command_that_runs_a_network_is_started_again(restarts: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "_dispatch", lambda words: 0)
    for words, number in ((["fit", "--help"], 1), (["bench", "--help"], 1), (["--version"], 1)):
        monkeypatch.setattr(sys, "argv", ["inbatch", *words])
        monkeypatch.setattr(os, "environ", {"HOME": "here"})
        cli.main()
        assert len(restarts) == number, words
    cli.main(["fit", "--help"])  # called from Python, the program is another one
    assert len(restarts) == 1


@pytest.mark.skipif(not allocator._is_glibc() or allocator._NVIDIA.exists(), reason="only there it is done")
def test_it_is_the_same_process():
    code = "import os; from inbatch.allocator import restart_tuned as r; print('a'); r(); print(os.getpid(), os.environ['GLIBC_TUNABLES'])"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=clean)
    lines = process.communicate(timeout=60)[0].splitlines()
    assert lines[:2] == ["a", "a"]
    assert lines[2].startswith(f"{process.pid} glibc.malloc.")
    assert process.returncode == 0
