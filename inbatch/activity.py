"""What the program is doing, said on stderr while it takes long, so that nobody has to guess whether it hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 5.0
_doing: list[tuple[Callable[[], str], float]] = []  # the innermost last, each with its start
_quiet: list[None] = []
_speaking: list[None] = []
_said = 0.0


@contextmanager
def doing(what: str | Callable[[], str]) -> Iterator[None]:
    """Name what is being done; where it takes long, `spoken` says so.

    Args:
        what: in words, to which the time it has taken is added; or what returns the whole line when it is asked.
    """
    start = time.monotonic()
    entry = (what if callable(what) else lambda: f"{what}  {clock(time.monotonic() - start)}", start)
    _doing.append(entry)
    try:
        yield
    finally:
        _doing.remove(entry)


@contextmanager
def counting(what: Callable[[], str]) -> Iterator[None]:
    """Say how far that is which is being done: ``what`` returns it when it is asked."""
    outer = _doing[-1][0] if _doing else lambda: ""
    with doing(lambda: "  ".join(filter(None, (outer(), what())))):
        yield


def now() -> str:
    """Return what is being done; empty for nothing."""
    try:
        return _doing[-1][0]()
    except IndexError:  # nothing, or nothing any more
        return ""


def said() -> None:
    """Note that something was shown just now."""
    global _said
    _said = time.monotonic()


@contextmanager
def quiet() -> Iterator[None]:
    """Say nothing: a bar is on the screen, or nothing is asked for."""
    _quiet.append(None)
    try:
        yield
    finally:
        _quiet.pop()
        said()


def bars() -> bool:
    """Say whether stderr is a place for bars: a terminal, or a notebook, where nobody prints lines in their place."""
    return sys.stderr.isatty() or not _speaking


@contextmanager
def spoken() -> Iterator[None]:
    """Print a line whenever nothing was said for some seconds, from a thread, so that no operation is too long for it."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(min(0.5, SECONDS_BETWEEN_LINES / 4)):
            since = max(_said, *(start for _, start in _doing[-1:]), 0.0)
            if _doing and not _quiet and time.monotonic() - since >= SECONDS_BETWEEN_LINES and (line := now()):
                said()
                print(line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True, name="inbatch activity")
    thread.start()
    _speaking.append(None)
    try:
        yield
    finally:
        _speaking.pop()
        over.set()
        thread.join(1)


def clock(seconds: float) -> str:
    """Write a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
