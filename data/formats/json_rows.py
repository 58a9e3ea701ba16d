"""Rows of JSON: one object a line, or an array of objects, read as a stream."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inbatch.data.formats.cells import Literal, Row
from inbatch.data.formats.decoding import Coding, reason
from inbatch.data.formats.opening import open_bytes, suffix_of, through, unpacked
from inbatch.errors import UsageError

_BLOCK = 1 << 16
# Characters of one row. A file whose brackets do not close is not read to its end.
_LONGEST_ROW = 1 << 28
# A byte order mark is none of the text.
_MARK = "\ufeff"
_SPACE = re.compile(rf"[\s{_MARK}]*")
_READ: dict[str, Any] = {"parse_int": Literal, "parse_float": Literal, "parse_constant": Literal}
_DECODER = json.JSONDecoder(**_READ)
# No line by itself: objects in an array, or a bracket alone.
_BEGINS_ARRAY = re.compile(r"\s*\[(\s*\{|[ \t\r]*\n)")


def is_stream(path: Path, file: io.BufferedReader[Any], coding: Coding) -> bool:
    """Say whether a file is to be read value by value and not line by line: from its name, or as an array of objects in it.

    Args:
        path: of the file.
        file: just opened.
        coding: how it is decoded.

    Example:
        >>> array, line = (io.BufferedReader(io.BytesIO(text)) for text in (b'[{"drink": "tea"}]', b'{"drink": "tea"}'))
        >>> is_stream(Path("menu.jsonl"), array, Coding()), is_stream(Path("menu.jsonl"), line, Coding())
        (True, False)
    """
    if suffix_of(path) == ".json":
        return True
    head = file.peek(_BLOCK)[:_BLOCK]
    return bool(_BEGINS_ARRAY.match(head.decode(coding.name, "ignore").lstrip(_MARK)))


def line_rows(path: Path, lines: Iterable[tuple[int, str]], coding: Coding) -> Iterator[Row]:
    """Read one row a line: an object, or a list, whose columns are numbered from 0, or a text, whose column is ``text``.

    Raises:
        UsageError: at a line that is none of these.

    Example:
        >>> found = ['{"drink": "tea"}', '["tea", "milk"]', '"tea"']
        >>> list(line_rows(Path("menu.jsonl"), enumerate(found, 1), Coding()))
        [(1, {'drink': 'tea'}), (2, {'0': 'tea', '1': 'milk'}), (3, {'text': 'tea'})]
    """
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line, **_READ)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UsageError(
                f"{path}, line {number}: expected one JSON object a line; {_why(error)}. Mend the line, or read the file without it: "
                f"{without_line(path, number, coding)}"
            ) from None
        yield number, _as_row(path, value, number)


def stream_rows(path: Path, coding: Coding) -> Iterator[Row]:
    r"""Read the items of an array, or values that follow one another; the number of each is that of the line it begins on.

    Memory holds a row at a time, however long the array is.

    Raises:
        UsageError: if the file is no such thing, or an item is neither object, nor list, nor text.

    Example:
        >>> _ = Path("menu.json").write_text('[{"drink": "tea"},\n {"drink":\n "milk"}]')
        >>> list(stream_rows(Path("menu.json"), Coding()))
        [(1, {'drink': 'tea'}), (2, {'drink': 'milk'})]
    """
    values = _Values(path, io.TextIOWrapper(open_bytes(path), coding.name, newline=""))
    array = values.next() == "["
    if array:
        values.skip()
    first = True
    while (character := values.next()) and not (array and character == "]"):
        if array and not first:
            if character != ",":
                raise values.wrong("expected a comma or the end of the array")
            values.skip()
            values.next()
        first = False
        line = values.line
        yield line, _as_row(path, values.value(), line)
    if array:
        if not character:
            raise values.wrong("expected the end of the array, ]; the file ends before it")
        values.skip()
        if values.next():
            raise values.wrong("expected nothing behind the array")


def check_whole(path: Path, rows: list[dict[str, Any]], coding: Coding) -> None:
    """Refuse a file that is one object with all the rows inside of it.

    Args:
        path: the file.
        rows: the first ones.
        coding: how it is decoded.

    Raises:
        UsageError: with the line that writes its rows as a file.

    Example:
        >>> try:
        ...     check_whole(Path("menu.json"), [{"drinks": [{"name": "tea"}, {"name": "milk"}]}], Coding())
        ... except UsageError as error:
        ...     print(str(error).split(" Write them out")[0])
        menu.json: expected one object a row; got a single object with the rows under 'drinks'.
    """
    if len(rows) != 1:
        return
    cells = rows[0]
    inside = [
        key for key, value in cells.items() if isinstance(value, list) and any(isinstance(v, dict) for v in value)
    ]
    sizes = {len(value) if isinstance(value, (list, dict)) else 0 for value in cells.values()}
    if inside:
        what, how = f"the rows under {inside[0]!r}", f"whole[{inside[0]!r}]"
    elif len(cells) > 1 and len(sizes) == 1 and min(sizes) > 1:
        what = "a list a column"
        how = "(dict(zip(whole, row)) for row in zip(*(c.values() if isinstance(c, dict) else c for c in whole.values())))"
    else:
        return
    raise UsageError(
        f"{path}: expected one object a row; got a single object with {what}. Write them out: {_rewrite(path, how, coding)}"
    )


def without_line(path: Path, number: int, coding: Coding) -> str:
    """Give the command that writes a file of lines without one of them.

    Example:
        >>> without_line(Path("menu.jsonl"), 3, Coding())
        'sed 3d < menu.jsonl > mended-menu.jsonl'
    """
    return through(path, *coding.around_lines(f"sed {number}d"))


def _rewrite(path: Path, how: str, coding: Coding) -> str:
    program = (
        "import json, sys; text = sys.stdin.buffer.read().decode("
        f"{coding.name if coding.like_ascii else 'utf-8'!r}); whole = json.loads(text.lstrip({_MARK!a})); [print(json.dumps(row)) for row in {how}]"
    )
    programs = coding.around(shlex.join([sys.executable, "-c", program]))
    return through(path, *programs, name=f"{unpacked(path).stem}-rows.jsonl")


def _as_row(path: Path, value: Any, number: int) -> dict[str, Any]:
    if isinstance(value, str) and not isinstance(value, Literal):
        return {"text": value}
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        raise UsageError(
            f'{path}, line {number}: expected an object such as {{"anchor": …}}; got {json.dumps(value)[:60]}. Mend the row.'
        )
    return value


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "it is nested too deeply"


class _Values:
    """Reads JSON values from a text, block by block."""

    def __init__(self, path: Path, file: io.TextIOWrapper) -> None:
        self._path, self._file = path, file
        self._text, self._place, self._ended = "", 0, False
        self.line = 1

    def next(self) -> str:
        """Return the next character that is no white space, and stay before it; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            self._go(match.end() if match else self._place)
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._fill()

    def skip(self) -> None:
        """Go behind the next character."""
        self._go(self._place + 1)

    def value(self) -> Any:
        """Read the value that begins here."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise self.wrong(_why(error)) from None
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._place > _LONGEST_ROW:
                    self._go(min(error.pos, len(self._text)))
                    raise self.wrong(error.msg) from None
            else:
                self._go(end)
                return value
            self._fill()

    def wrong(self, why: str) -> UsageError:
        """Make the error of what stands here."""
        got = self._text[self._place : self._place + 40].split("\n")[0]
        return UsageError(
            f"{self._path}, line {self.line}: expected JSON, an array of objects or objects one after another; {why}; got "
            f"{got or 'the end of the file'!r}. Mend the file there."
        )

    def _go(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _fill(self) -> None:
        kept = self._text[self._place :]
        try:
            block = self._file.read(max(_BLOCK, len(kept)))
        except UnicodeError as error:
            raise UsageError(
                f"{self._path}, after line {self.line}: expected {self._file.encoding.upper()}; {reason(error)}. Mend the file, or set "
                "encoding of its source."
            ) from None
        self._text, self._place, self._ended = kept + block, 0, not block
