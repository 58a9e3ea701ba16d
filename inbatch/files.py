"""Files that are there whole or not at all: written beside their place, forced to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# What a file system answers to a request that it does not know.
NOT_SUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of ``path`` for writing; it takes the name at the end, and vanishes after an error.

    Example:
        >>> with replace_file("result.txt") as file:
        ...     _ = file.write(b"all of it")
        >>> with replace_file("result.txt") as file:
        ...     _ = file.write(b"half")
        ...     raise OSError("the disk is full")
        Traceback (most recent call last):
        OSError: the disk is full
        >>> Path("result.txt").read_text()
        'all of it'
    """
    path = Path(path).absolute()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            _sync(file.fileno())
        _publish(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)  # a signal may come when it has its name already
        raise


def replace_by_link(source: str | Path, path: str | Path) -> None:
    """Give the finished file ``source`` a second name, in place of whatever ``path`` was; both lie in one folder.

    A file system without hard links gets a copy.

    Example:
        >>> _ = Path("best.txt").write_text("step 200"), Path("last.txt").write_text("step 100")
        >>> replace_by_link("best.txt", "last.txt")
        >>> Path("last.txt").read_text()
        'step 200'
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


def give_usual_mode(path: str | Path) -> None:
    """Let a file that was made private be read by whom the umask allows, as any other file; what is executable stays so.

    Temporary files are private, and so is what safetensors writes. A file system without modes has none to set.

    Example:
        >>> handle, name = tempfile.mkstemp(dir=".")
        >>> os.close(handle)
        >>> before = os.umask(0o022)
        >>> oct(os.stat(name).st_mode)[-3:], give_usual_mode(name), oct(os.stat(name).st_mode)[-3:]
        ('600', None, '644')
        >>> _ = os.umask(before)
    """
    mask = os.umask(0)
    os.umask(mask)
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, (mode | 0o666) & ~mask)


def _publish(temporary: str, path: Path) -> None:
    give_usual_mode(temporary)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk only once its folder is; some file systems cannot do this, and then it need not be done.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
