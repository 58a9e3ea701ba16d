"""Turn the bytes of a text file into lines: its encoding, its line ends, and the place of every byte that does not fit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inbatch.data.formats.doubt import Doubt
from inbatch.data.formats.opening import open_bytes
from inbatch.errors import UsageError

_HEAD_BYTES = 1 << 16
# The longer mark first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_MARK = "\ufeff"
_LONGEST_EXAMPLE = 40


@dataclass(frozen=True)
class Coding:
    """How the bytes of a text file are read.

    Attributes:
        name: of the encoding, as Python has it.
        ends: what ends a line: a line feed, with or without a carriage return before it, or a carriage return alone.
        set: whether the user named the encoding.
    """

    name: str = "utf-8"
    ends: str = "\n"
    set: bool = False

    def __str__(self) -> str:
        ends = ", lines that end in a carriage return alone" if self.ends == "\r" else ""
        return f"{self.name.upper()}{ends}"

    @property
    def plain(self) -> bool:
        """Whether this is what every text file is expected to be."""
        return self == Coding()


def find_coding(path: Path, encoding: str | None = None) -> Coding:
    """Find how a text file is to be read, from its first bytes.

    A byte order mark names UTF-8, UTF-16 or UTF-32; without one a file is UTF-8. A file that has carriage returns and no line feed is one
    of old Macs.

    Args:
        path: the file.
        encoding: the name that the user gave; None where none was.

    Raises:
        UsageError: if there is no such encoding, the mark contradicts it, or the bytes hold NULs as only UTF-16 has them; then the line
            that names it is said (`Doubt`).
    """
    with open_bytes(path) as file:
        head = file.read(_HEAD_BYTES)
    return _coding(head, str(path), encoding)


def lines(path: Path, coding: Coding) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, numbered from 1, each with its end; byte order marks at their beginnings are left out.

    Only a line feed ends a line (a carriage return where ``coding`` says so): other marks inside of a sentence stay there.

    Raises:
        UsageError: at the first line that is not in the encoding, or holds a NUL.
    """
    where = str(path)
    with open_bytes(path) as file:
        if coding.ends == "\n" and not coding.name.startswith(("utf-16", "utf-32")):
            # In all other encodings of texts the byte 0x0A is a line feed and nothing else.
            for number, line in enumerate(file, 1):
                yield number, _line(line, number, where, coding)
            return
        number = 0
        try:
            for number, text in enumerate(io.TextIOWrapper(file, coding.name, newline=coding.ends), 1):
                yield number, _without_nul(text.lstrip(_MARK), number, where)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{where}, after line {number}: expected {coding.name.upper()}; {error.reason}. Mend the file, or set encoding of its source."
            ) from None


def decode(content: bytes, where: str) -> tuple[list[str], Coding]:
    """Decode a whole text, as `lines` does, into lines without their ends; a blank line counts, the end of the last is no line.

    Raises:
        UsageError: if it is not UTF-8, has no byte order mark of another encoding, or holds a NUL; it says what converts it.
    """
    coding = Coding()
    try:
        coding = _coding(content[:_HEAD_BYTES], where)
        text = _without_nul(content.decode(coding.name), 1, where)
    except (UnicodeDecodeError, Doubt) as error:
        line = content[: getattr(error, "start", 0)].count(b"\n") + 1
        if coding.name != "utf-8":
            raise UsageError(
                f"expected {coding.name.upper()}, as its byte order mark says, in {where}; line {line} is not."
            ) from None
        guess = error.meanings[0][1]["encoding"] if isinstance(error, Doubt) else "cp1252"
        raise UsageError(
            f"expected UTF-8 in {where}; line {line} is not. Convert it, where it is {guess}, with: "
            f"iconv -f {guess} -t utf-8 {where} > {where}.utf8"
        ) from None
    # splitlines() would also cut at separators inside a text, such as U+2028.
    found = text.removesuffix("\n" if coding.ends == "\n" else "\r").split(coding.ends)
    return [line.removesuffix("\r").lstrip(_MARK) for line in found], coding


def _coding(head: bytes, where: str, encoding: str | None = None) -> Coding:
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if encoding is not None:
        try:
            "a".encode(encoding)  # an empty text would be in any
        except LookupError:
            raise UsageError(
                f"{where}: expected encoding to be one that Python knows, such as cp1252, utf-16 or gb18030; got {encoding}."
            ) from None
        encoding = encoding.lower().replace("_", "-")
        if marked and not marked.startswith(encoding.removesuffix("-sig")):
            raise UsageError(
                f"{where}: begins with the byte order mark of {marked.upper()}; encoding is set to {encoding}. Remove that setting."
            )
    elif not marked and b"\0" in head:
        high = head[::2].count(0) > head[1::2].count(0)
        guess = "utf-16-be" if high else "utf-16-le"
        raise Doubt(
            where,
            "holds NUL bytes, as UTF-16 does, without a byte order mark",
            [(f"if it is {guess.upper()}", {"encoding": guess})],
        )
    name = marked or encoding or "utf-8"
    text = head.decode(name, "ignore")
    return Coding(name, "\r" if "\r" in text and "\n" not in text else "\n", encoding is not None)


def _line(line: bytes, number: int, where: str, coding: Coding) -> str:
    try:
        return _without_nul(line.decode(coding.name).lstrip(_MARK), number, where)
    except UnicodeDecodeError as error:
        what = f"expected {coding.name.upper()}; byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
        if coding.set:
            raise UsageError(f"{where}, line {number}: {what}. Set encoding of the source to another one.") from None
        around = line[max(0, error.start - _LONGEST_EXAMPLE // 2) :].decode("cp1252", "replace")
        raise Doubt(
            where,
            f"line {number}: {what}. Convert it with iconv, or name its encoding",
            [(f"if {around.strip()[:_LONGEST_EXAMPLE]!r} is right", {"encoding": "cp1252"})],
        ) from None


def _without_nul(text: str, number: int, where: str) -> str:
    if "\0" in text:
        number += text[: text.index("\0")].count("\n")
        raise UsageError(
            f"{where}, line {number}: expected text; got a NUL byte. Remove such bytes: tr -d '\\000' < {where} > {where}.txt"
        )
    return text
