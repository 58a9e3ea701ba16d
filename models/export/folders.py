"""Replace a folder as a whole: readers see the old one or the new one, and a failure leaves the old one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inbatch.files import give_usual_mode

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``target`` to fill; at the end it is flushed to disk and takes the target's place.

    If the body raises, the temporary folder is removed and the target stays as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "export") as temporary:
        ...         _ = (temporary / "a.txt").write_text("new")
        ...     (Path(folder) / "export" / "a.txt").read_text()
        'new'
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, aside = _beside(target)
    if aside.exists() and not target.exists():
        os.rename(aside, target)  # a process died between the two renames of _swap
    # Fixed names, so that what a killed process left behind is cleared by the next.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file() and not path.is_symlink():
                give_usual_mode(path)
        _flush(temporary)
        _swap(temporary, target)
        _flush_entry(target.parent)
    finally:
        # After a swap this is the old content.
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.tmp"), target.with_name(f".{target.name}.old")


def _swap(temporary: Path, target: Path) -> None:
    if not target.exists():
        os.rename(temporary, target)
    elif not _exchange(temporary, target):
        # Two renames, with a moment between them in which there is no target: the best that is left without an exchange.
        _, aside = _beside(target)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _flush_entry(path)
    _flush_entry(folder)


def _flush_entry(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems refuse to flush a folder.
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)
