from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from inbatch import allocator

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
