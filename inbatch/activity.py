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

    Example:
        >>> with doing("reading pairs.csv"):
        ...     now().rpartition("  ")[0]  # behind it stands the time that this takes
        'reading pairs.csv'
        >>> with doing(lambda: "reading pairs.csv, line 20,000"):
        ...     now()
        'reading pairs.csv, line 20,000'
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
    """Say how far that is which is being done: ``what`` returns it when it is asked.

    Example:
        >>> with doing(lambda: "encoding"), counting(lambda: "3 of 8 texts"):
        ...     now()
        'encoding  3 of 8 texts'
    """
    outer = _doing[-1][0] if _doing else lambda: ""
    with doing(lambda: "  ".join(filter(None, (outer(), what())))):
        yield


def now() -> str:
    """Return what is being done; empty for nothing.

    Example:
        >>> now()
        ''
        >>> with doing(lambda: "evaluating"), doing(lambda: "reading STS-B"):
        ...     now()  # the innermost
        'reading STS-B'
    """
    try:
        return _doing[-1][0]()
    except IndexError:  # nothing, or nothing any more
        return ""


def said() -> None:
    """Note that something was shown just now.

    Example:
        >>> from inbatch import activity
        >>> said()
        >>> time.monotonic() - activity._said < SECONDS_BETWEEN_LINES  # so long `spoken` waits for its next line
        True
    """
    global _said
    _said = time.monotonic()


@contextmanager
def quiet() -> Iterator[None]:
    """Say nothing: a bar is on the screen, or nothing is asked for.

    Example:
        >>> from contextlib import redirect_stderr
        >>> from unittest.mock import patch
        >>> often = patch("inbatch.activity.SECONDS_BETWEEN_LINES", 0.01)
        >>> with redirect_stderr(sys.stdout), often, spoken(), quiet(), doing("training"):
        ...     time.sleep(0.1)  # without `quiet` there would be lines
    """
    _quiet.append(None)
    try:
        yield
    finally:
        _quiet.pop()
        said()


def bars() -> bool:
    """Say whether stderr is a place for bars: a terminal, or a notebook, where nobody prints lines in their place.

    Example:
        >>> import io
        >>> from contextlib import redirect_stderr
        >>> with redirect_stderr(io.StringIO()):  # no terminal, as in a notebook
        ...     bars()
        True
        >>> with redirect_stderr(io.StringIO()), spoken():  # no terminal, as in a log file of a command, which has lines
        ...     bars()
        False
    """
    return sys.stderr.isatty() or not _speaking


@contextmanager
def spoken() -> Iterator[None]:
    """Print a line whenever nothing was said for some seconds, from a thread, so that no operation is too long for it.

    Example:
        >>> import io
        >>> from contextlib import redirect_stderr
        >>> from unittest.mock import patch
        >>> often, screen, asked = patch("inbatch.activity.SECONDS_BETWEEN_LINES", 0.01), io.StringIO(), threading.Event()
        >>> with redirect_stderr(screen), often, spoken(), doing(lambda: asked.set() or "reading pairs.csv"):
        ...     asked.wait(5)
        True
        >>> screen.getvalue().splitlines()[0]
        'reading pairs.csv'
    """
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
    """Write a duration as ``m:ss`` or ``h:mm:ss``.

    Example:
        >>> clock(75.2), clock(3675)
        ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
