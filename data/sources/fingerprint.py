"""What was trained on, in a few letters: whether rows have changed since shows without keeping them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset

_BLOCK = 4096  # rows
_READ = 2 << 30  # bytes that are read of a table; what is larger is read in evenly spaced blocks
_PIECE, _PIECES = 1 << 16, 1 << 10  # bytes, and how many of them are read of a file


def fingerprint(rows: Dataset) -> str:
    """Return 16 hexadecimal digits of a table's content: names of its columns, number of its rows, and their cells.

    The cells of all rows, up to some 2 GiB (at about a gigabyte a second); of a larger table those of evenly spaced blocks of rows,
    the first and the last among them. How the table lies in memory or in its file changes nothing.

    Args:
        rows: the table, in columns that are read.

    Example:
        >>> from datasets import Dataset
        >>> rows, turned = Dataset.from_dict({"drink": ["tea", "milk"]}), Dataset.from_dict({"drink": ["milk", "tea"]})
        >>> fingerprint(rows) == fingerprint(turned), fingerprint(rows) == fingerprint(turned.select([1, 0]))
        (False, True)
    """
    arrow = rows.with_format("arrow")
    digest = hashlib.blake2b(f"{sorted(rows.column_names)} {len(rows)}".encode(), digest_size=8)
    for first in _starts(len(rows), rows.data.nbytes):
        table: pa.Table = arrow[first : first + _BLOCK]
        for name in sorted(table.column_names):
            column = table[name].combine_chunks()
            chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
            for chunk in chunks:
                # Written as for another process, an array begins at its first cell, wherever that lay.
                digest.update(pa.record_batch([chunk], names=[name]).serialize())
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's size and content: all of it up to 64 MiB, of a larger one evenly spaced pieces.

    Example:
        >>> names = ("tea.txt", "copy.txt", "coffee.txt")
        >>> _ = [Path(name).write_text(text) for name, text in zip(names, ("tea", "tea", "coffee"))]
        >>> tea, copy, coffee = (file_fingerprint(Path(name)) for name in names)
        >>> tea == copy, tea == coffee, len(tea)
        (True, False, 16)
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as file:
        for number in _spaced(-(-size // _PIECE), _PIECES):
            file.seek(number * _PIECE, os.SEEK_SET)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()


def _starts(count: int, size: int) -> list[int]:
    """Return the first rows of the blocks that are read."""
    blocks = -(-count // _BLOCK)
    return [number * _BLOCK for number in _spaced(blocks, blocks * _READ // max(size, 1))]


def _spaced(count: int, most: int) -> list[int]:
    """Return the numbers below ``count``; where there are more than ``most`` so many of them, first and last among them."""
    kept = min(count, max(most, 2))
    return list(range(count)) if kept == count else [i * (count - 1) // (kept - 1) for i in range(kept)]
