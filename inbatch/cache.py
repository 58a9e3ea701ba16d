"""Tables that are dear to make, kept as memory-mapped Arrow files in the user's cache folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from inbatch.errors import InbatchError, UsageError
from inbatch.files import replace_file

if TYPE_CHECKING:
    from datasets import Dataset

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_KEY = b"inbatch.key"


def cache_folder() -> Path:
    """Return the folder of cached tables.

    ``INBATCH_CACHE`` where it is set, else ``inbatch`` in ``XDG_CACHE_HOME`` or in the platform's own place for caches.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, {"INBATCH_CACHE": "", "XDG_CACHE_HOME": "/scratch/cache"}):
        ...     print(cache_folder())
        /scratch/cache/inbatch
    """
    if folder := os.environ.get("INBATCH_CACHE"):
        return Path(folder).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "inbatch"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "inbatch"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "inbatch"
    return Path.home() / ".cache" / "inbatch"


def cached_table(name: str, key: str, schema: pa.Schema, make: Callable[[], Iterable[pa.RecordBatch]]) -> Dataset:
    """Return the table ``name``, made anew where it is not in the cache, was made from something else, or is damaged.

    One file a name: a new key replaces the old table.

    Args:
        name: a file name without suffix.
        key: what the table was made from; the file holds it.
        schema: columns of the table.
        make: called where the table has to be made; yields its rows.

    Raises:
        UsageError: if the cache folder cannot be written.

    Example:
        >>> from unittest.mock import patch
        >>> schema = pa.schema({"anchor": pa.string()})
        >>> def make():
        ...     print("making it")
        ...     yield pa.record_batch([["a cat on a mat"]], schema=schema)
        >>> with patch.dict(os.environ, INBATCH_CACHE="cache"):
        ...     for _ in range(2):
        ...         print(cached_table("sentences", "version 1", schema, make)[0])
        making it
        {'anchor': 'a cat on a mat'}
        {'anchor': 'a cat on a mat'}
    """
    from datasets import Dataset

    path = cache_folder() / f"{name}.arrow"
    if not _is_whole(path, key):
        _write(path, schema.with_metadata({_KEY: key.encode()}), make)
    return Dataset.from_file(str(path))


def _is_whole(path: Path, key: str) -> bool:
    try:
        with path.open("rb") as file:
            # Arrow takes a stream that stops between two batches for a shorter table; only the end mark shows that it is whole.
            file.seek(-len(_END_OF_STREAM), os.SEEK_END)
            if file.read() != _END_OF_STREAM:
                return False
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            for _ in reader:
                pass
            return (reader.schema.metadata or {}).get(_KEY) == key.encode()
    except (OSError, pa.ArrowException):
        return False


def _write(path: Path, schema: pa.Schema, make: Callable[[], Iterable[pa.RecordBatch]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in make():
                writer.write_batch(batch)
    except InbatchError:
        raise
    except OSError as error:
        raise UsageError(
            f"cannot write to the cache folder {path.parent}: {error}. Set INBATCH_CACHE to a folder with free space."
        ) from error
