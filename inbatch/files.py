"""Files that are there whole or not at all: written beside their place, forced to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of ``path`` for writing; it takes the name at the end, and vanishes after an error."""
    path = Path(path).absolute()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def replace_by_link(source: str | Path, path: str | Path) -> None:
    """Give the finished file ``source`` a second name, in place of whatever ``path`` was; both lie in one folder.

    A file system without hard links gets a copy.
    """
    source, path = Path(source).absolute(), Path(path).absolute()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        os.link(source, temporary)
    except OSError:
        with replace_file(path) as file, source.open("rb") as original:
            while block := original.read(1 << 20):
                file.write(block)
        return
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _publish(temporary: str, path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)  # mkstemp's files are private
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk only once its folder is; some file systems cannot do this, and then it need not be done.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
