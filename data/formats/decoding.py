"""Turn the bytes of a text file into lines: its encoding, its line ends, and the place of every byte that does not fit."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inbatch.data.formats.doubt import Doubt, Meaning
from inbatch.data.formats.opening import open_bytes, through
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
    r"""How the bytes of a text file are read.

    Attributes:
        name: of the encoding, as Python has it.
        ends: what ends a line: a line feed, with or without a carriage return before it, or a carriage return alone.
        set: whether the user named the encoding.

    Example:
        >>> print(Coding("utf-8", ends="\r"))
        UTF-8, lines that end in a carriage return alone
        >>> Coding("utf-16-le").around("sort")
        ['iconv -f utf-16le -t utf-8', 'sort']
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

    @property
    def like_ascii(self) -> bool:
        """Whether the byte 0x0A is a line feed and nothing else, as in most encodings of texts."""
        return "\n".encode(self.name) == b"\n"

    def around(self, *programs: str) -> list[str]:
        """Put programs of a shell, which know bytes like ASCII alone, between those that turn other encodings into UTF-8 and back.

        What comes out is in the encoding that the user named, so that the settings of the source stay right, and in UTF-8 otherwise.
        """
        if self.like_ascii:
            return list(programs)
        name = _iconv_name(self.name)
        return [f"iconv -f {name} -t utf-8", *programs, *([f"iconv -f utf-8 -t {name}"] if self.set else [])]

    def around_lines(self, *programs: str) -> list[str]:
        """Do what `around` does, for programs whose lines end in a line feed."""
        if self.ends == "\r":
            programs = ("tr '\\r' '\\n'", *programs, "tr '\\n' '\\r'")
        return self.around(*programs)


def find_coding(file: io.BufferedReader[Any], path: Path, encoding: str | None = None) -> Coding:
    r"""Find how a text file is to be read, from its first bytes, and stay before them.

    A byte order mark names UTF-8, UTF-16 or UTF-32; without one a file is UTF-8. A file that has carriage returns and no line feed is one
    of old Macs.

    Args:
        file: just opened.
        path: of the file, for messages.
        encoding: the name that the user gave; None where none was.

    Raises:
        UsageError: if there is no such encoding, the mark contradicts it, it is UTF-16 or UTF-32 without a mark that says the order of the
            bytes, or the bytes hold NULs as only these have them; then the line that names it is said (`Doubt`).

    Example:
        >>> path = Path("menu.txt")
        >>> _ = path.write_bytes("\ufefftea\nmilk\n".encode("utf-16-be"))
        >>> with open_bytes(path) as file:
        ...     print(find_coding(file, path))
        UTF-16-BE
    """
    return _coding(file.peek(_HEAD_BYTES + 1)[: _HEAD_BYTES + 1], str(path), encoding)


def lines(path: Path, coding: Coding) -> Iterator[tuple[int, str]]:
    r"""Yield the lines of a file, numbered from 1, each with its end; byte order marks at their beginnings are left out.

    Only a line feed ends a line (a carriage return where ``coding`` says so): other marks inside of a sentence stay there.

    Raises:
        UsageError: at the first line that is not in the encoding, holds a NUL, or holds a line feed where carriage returns end lines.

    Example:
        >>> _ = Path("menu.txt").write_bytes("tea\u2028green\r\nmilk".encode())
        >>> list(lines(Path("menu.txt"), Coding()))
        [(1, 'tea\u2028green\r\n'), (2, 'milk')]
    """
    with open_bytes(path) as file:
        yield from lines_in(file, path, coding)


def lines_in(file: io.BufferedReader[Any], path: Path, coding: Coding) -> Iterator[tuple[int, str]]:
    r"""Yield what `lines` does from a file that was just opened.

    Example:
        >>> file = io.BufferedReader(io.BytesIO(b"tea\rmilk\r"))
        >>> list(lines_in(file, Path("menu.txt"), Coding(ends="\r")))
        [(1, 'tea\r'), (2, 'milk\r')]
    """
    if coding.ends == "\n" and coding.like_ascii:
        for number, line in enumerate(file, 1):
            yield number, _line(line, number, path, coding)
        return
    number = 0
    try:
        for number, text in enumerate(io.TextIOWrapper(file, coding.name, newline=coding.ends), 1):
            _check(text, number, path, coding)
            yield number, text.lstrip(_MARK)
    except UnicodeError as error:
        raise UsageError(
            f"{path}, after line {number}: expected {coding.name.upper()}; {reason(error)}. Mend the file, or set encoding of its source."
        ) from None


def decode(content: bytes, path: str) -> tuple[list[str], Coding]:
    r"""Decode a whole text, as `lines` does, into lines without their ends; a blank line counts, the end of the last is no line.

    Args:
        content: decompressed.
        path: where it was read from, for messages; ``-`` is standard input.

    Raises:
        UsageError: if it is not UTF-8, has no byte order mark of another encoding, or is what `lines` refuses; it says what mends it.

    Example:
        >>> found, coding = decode("\ufefftea\r\n\r\nmilk\n".encode("utf-16-le"), "menu.txt")
        >>> found, coding.name
        (['tea', '', 'milk'], 'utf-16-le')
    """
    where = "stdin" if path == "-" else path
    coding = Coding()
    try:
        coding = _coding(content[: _HEAD_BYTES + 1], where)
        text = content.decode(coding.name)
    except (UnicodeDecodeError, Doubt) as error:
        line = content[: getattr(error, "start", 0)].count(b"\n") + 1
        if coding.name != "utf-8":
            raise UsageError(
                f"expected {coding.name.upper()}, as its byte order mark says, in {where}; line {line} is not. Mend the file there."
            ) from None
        guess = _iconv_name(error.meanings[0][1]["encoding"] if isinstance(error, Doubt) else "cp1252")
        raise UsageError(
            f"expected UTF-8 in {where}; line {line} is not. Convert it, where it is {guess}, with: "
            f"{through(path, f'iconv -f {guess} -t utf-8')}"
        ) from None
    _check(text, 1, path, coding)
    # splitlines() would also cut at separators inside a text, such as U+2028.
    found = text.removesuffix(coding.ends).split(coding.ends)
    return [line.removesuffix("\r").lstrip(_MARK) for line in found], coding


def reason(error: UnicodeError) -> str:
    r"""Say why bytes could not be decoded; some decoders tell no place.

    Example:
        >>> reason(UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "unexpected end of data"))
        'unexpected end of data'
        >>> reason(UnicodeError("the stream does not begin with a mark"))
        'the stream does not begin with a mark'
    """
    return getattr(error, "reason", None) or str(error)


def _coding(head: bytes, where: str, encoding: str | None = None) -> Coding:
    """Find the coding from up to `_HEAD_BYTES` of a file, and one more where it is longer."""
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    name = marked or "utf-8"
    if encoding is not None:
        named = _canonical(encoding, where)
        if marked and not marked.startswith(named):
            raise UsageError(
                f"{where}: begins with the byte order mark of {marked.upper()}; encoding is set to {encoding}. Remove that setting."
            )
        if not marked and named in ("utf-16", "utf-32"):
            raise Doubt(
                where,
                f"expected a byte order mark, as encoding {encoding} has it; there is none. Name the order of the bytes, too",
                _orders(head, named),
            )
        name = marked or named
    elif not marked and b"\0" in head:
        kind = "utf-32" if _is_utf_32(head) else "utf-16"
        raise Doubt(
            where, f"holds NUL bytes, as {kind.upper()} does, without a byte order mark", _orders(head, kind)[:1]
        )
    text = head.decode(name, "ignore")
    # Of a longer file, a line feed may follow the last carriage return.
    returns = "\r" in (text if len(head) <= _HEAD_BYTES else text[:-1])
    return Coding(name, "\r" if returns and "\n" not in text else "\n", encoding is not None)


def _canonical(encoding: str, where: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "a".encode(name).decode(name, "ignore")  # some are none of texts
    except (LookupError, ValueError):
        raise UsageError(
            f"{where}: expected encoding to be one that Python knows, such as cp1252, utf-16 or gb18030; got {encoding}."
        ) from None
    return name.removesuffix("-sig")


def _orders(head: bytes, kind: str) -> list[Meaning]:
    """Return the two orders of bytes, the likelier first: the high bytes of most characters are 0."""
    size = {"utf-16": 2, "utf-32": 4}[kind]
    big = head[::size].count(0) > head[size - 1 :: size].count(0)
    names = [f"{kind}-{order}" for order in (("be", "le") if big else ("le", "be"))]
    return [(f"if it is {name.upper()}", {"encoding": name}) for name in names]


def _is_utf_32(head: bytes) -> bool:
    """Whether all first characters are of the planes 0 to 2, which have names in Unicode."""
    parts = [(head[3::4], head[2::4]), (head[::4], head[1::4])]
    return any(bool(plane) and not any(high) and max(plane) <= 2 for high, plane in parts)


def _iconv_name(name: str) -> str:
    return name.replace("utf-16-", "utf-16").replace("utf-32-", "utf-32")


def _line(line: bytes, number: int, path: Path, coding: Coding) -> str:
    try:
        text = line.decode(coding.name).lstrip(_MARK)
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        what = f"expected {coding.name.upper()}; byte {start + 1} of the line is 0x{line[start]:02x}"
        if coding.set:
            raise UsageError(f"{path}, line {number}: {what}. Set encoding of the source to another one.") from None
        around = line[max(0, start - _LONGEST_EXAMPLE // 2) :].decode("cp1252", "replace")
        raise Doubt(
            str(path),
            f"line {number}: {what}. Convert it with iconv, or name its encoding",
            [(f"if {around.strip()[:_LONGEST_EXAMPLE]!r} is right", {"encoding": "cp1252"})],
        ) from None
    _check(text, number, path, coding)
    return text


def _check(text: str, number: int, path: str | Path, coding: Coding) -> None:
    """Refuse what no line of text holds.

    Args:
        text: one line or several.
        number: of the first of them.
        path: for messages; ``-`` is standard input.
        coding: how it was decoded.
    """
    where = "stdin" if str(path) == "-" else path
    if "\0" in text:
        number += text[: text.index("\0")].count(coding.ends)
        line = through(path, *coding.around("tr -d '\\000'"))
        raise UsageError(f"{where}, line {number}: expected text; got a NUL byte. Remove such bytes: {line}")
    if coding.ends == "\r" and "\n" in text:
        number += text[: text.index("\n")].count("\r")
        each, none = (through(path, *coding.around(p)) for p in ("perl -pe 's/\\r\\n?/\\n/g'", "tr -d '\\r'"))
        raise UsageError(
            f"{where}, line {number}: expected lines that end in a carriage return alone, as the first ones do; got a line feed. If every "
            f"carriage return ends a line: {each}; if none does: {none}"
        )
