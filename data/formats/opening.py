"""Open a data file as bytes, compressed or not, and tell its format from its name."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from inbatch.errors import UsageError

# Endings behind that of the format, with Arrow's name of the compression, the bytes that such a file begins with, and what decompresses it.
COMPRESSIONS = {
    ".gz": ("gzip", b"\x1f\x8b", "gzip -dc"),
    ".zst": ("zstd", b"\x28\xb5\x2f\xfd", "zstd -dc"),
    ".bz2": ("bz2", b"BZh", "bzip2 -dc"),
}
_SAME = {".ndjson": ".jsonl", ".jsonlines": ".jsonl"}
_BLOCK = 1 << 20


def suffix_of(path: str | Path) -> str:
    """Return the ending that names a file's format, in small letters and without that of a compression.

    Example:
        >>> suffix_of("pairs.JSONL.gz"), suffix_of("Texts.TXT"), suffix_of("v1.2/pairs"), suffix_of("pairs.gz")
        ('.jsonl', '.txt', '', '')
    """
    path = unpacked(path)
    return _SAME.get(path.suffix.lower(), path.suffix.lower())


def compression_of(path: str | Path) -> str | None:
    """Return the compression that a file's name says: gzip, zstd, bz2 or None.

    Example:
        >>> compression_of("faq.csv.GZ"), compression_of("faq.jsonl.zst"), compression_of("faq.csv")
        ('gzip', 'zstd', None)
    """
    return COMPRESSIONS.get(Path(path).suffix.lower(), (None,))[0]


def unpacked(path: str | Path) -> Path:
    """Return a path without the ending of a compression.

    Example:
        >>> unpacked("faq.csv.gz").name, unpacked("faq.csv").name
        ('faq.csv', 'faq.csv')
    """
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


def through(path: str | Path, *programs: str, name: str | None = None) -> str:
    """Give the line of a shell that sends a file, decompressed, through programs into a new file beside it.

    Args:
        path: the file; for ``-``, standard input, the line is the programs alone, to stand in front of a command that reads it.
        programs: each reads its standard input.
        name: of the new file; ``mended-`` and the old one's, less the ending of a compression, if not given.

    Example:
        >>> through("my pairs.jsonl.gz", "sed 3d")
        "gzip -dc < 'my pairs.jsonl.gz' | sed 3d > 'mended-my pairs.jsonl'"
    """
    if str(path) == "-":
        return " | ".join(programs)
    path = Path(path)
    packed = COMPRESSIONS.get(path.suffix.lower())
    first, *rest = [packed[2], *programs] if packed else programs
    line = " | ".join([f"{first} < {shlex.quote(str(path))}", *rest])
    return f"{line} > {shlex.quote(str(path.with_name(name or f'mended-{unpacked(path).name}')))}"


def open_bytes(path: str | Path) -> io.BufferedReader[Any]:
    """Open a file for reading, decompressed on the way; memory holds a block at a time.

    Args:
        path: a file; a name that ends in one of `COMPRESSIONS`, in any case, is that of a compressed one.

    Raises:
        UsageError: if name and content differ about the compression; while it is read, if the compressed file is cut off or damaged.

    Example:
        >>> import gzip
        >>> _ = Path("menu.txt.gz").write_bytes(gzip.compress(b"tea and milk"))
        >>> with open_bytes("menu.txt.gz") as file:
        ...     file.read()
        b'tea and milk'
    """
    path = Path(path)
    file: io.BufferedReader[Any] = io.BufferedReader(io.FileIO(path), _BLOCK)
    head = file.peek(4)
    found = next((ending for ending, (_, magic, _) in COMPRESSIONS.items() if head.startswith(magic)), "")
    named = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    if found == named or not head:
        return file if not found else io.BufferedReader(_Decompressed(path, file, COMPRESSIONS[found][0]), _BLOCK)
    file.close()
    right = f"{unpacked(path)}{found}"
    what = f"a file compressed with {COMPRESSIONS[named][0]}" if named else "a file that is not compressed"
    raise UsageError(
        f"{path}: expected {what}, as its name says; {f'it is one of {COMPRESSIONS[found][0]}' if found else 'it is none'}. Rename it: "
        f"{shlex.join(['mv', '-n', str(path), right])}"
    )


class _Decompressed(io.RawIOBase):
    """Arrow's decompressed stream, with errors that name the file."""

    def __init__(self, path: Path, file: IO[bytes], codec: str) -> None:
        self._path, self._file, self._codec = path, file, codec
        self._stream: Any = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            raise UsageError(
                f"{self._path}: expected a whole file compressed with {self._codec}; {str(error).splitlines()[0]}. It is cut off or "
                "damaged: copy or download it again."
            ) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
