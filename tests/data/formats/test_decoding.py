from __future__ import annotations

from pathlib import Path

import pytest

from inbatch.data.formats.decoding import Coding, decode, find_coding, lines
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError

TEXT = "Grüße, 你好\nzwei \u2028 noch zwei\n\nمرحبا\r\n"
NUMBERED = [(1, "Grüße, 你好\n"), (2, "zwei \u2028 noch zwei\n"), (3, "\n"), (4, "مرحبا\r\n")]


def write(folder: Path, content: bytes) -> Path:
    (folder / "a.txt").write_bytes(content)
    return folder / "a.txt"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    path = write(tmp_path, TEXT.encode(encoding))
    coding = find_coding(path)
    assert list(lines(path, coding)) == NUMBERED
    assert coding.name == {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, "utf-8")
    assert decode(path.read_bytes(), "a")[0] == [line.rstrip("\r\n") for _, line in NUMBERED]


def test_big_endian_marks_and_two_marks_in_a_row(tmp_path):
    path = write(tmp_path, ("\ufeff" + TEXT).encode("utf-16-be"))
    assert list(lines(path, find_coding(path))) == NUMBERED
    path = write(tmp_path, ("\ufeff\ufeff" + TEXT).encode())
    assert list(lines(path, find_coding(path))) == NUMBERED


def test_a_mark_at_the_beginning_of_a_later_line_is_of_a_file_put_behind_another(tmp_path):
    path = write(tmp_path, "\ufeffa\n\ufeffb\n".encode())
    assert [line for _, line in lines(path, find_coding(path))] == ["a\n", "b\n"]
    assert decode(path.read_bytes(), "a")[0] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Grüße\né\n", "cp1252"), ("你好\n吗\n", "gb18030"), ("テスト\n", "shift_jis"), ("a\n你\n", "utf-16-le")],
)
def test_the_user_may_name_the_encoding(tmp_path, text, encoding):
    path = write(tmp_path, text.encode(encoding))
    assert "".join(line for _, line in lines(path, find_coding(path, encoding))) == text


@pytest.mark.parametrize(("encoding", "guess"), [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")])
@pytest.mark.parametrize("text", ["anchor,positive\na,b\n", "问题,答案\n你好,您好\n", "a\n"])
def test_utf_16_without_a_mark_is_refused_with_its_name(tmp_path, text, encoding, guess):
    with pytest.raises(Doubt, match="NUL bytes, as UTF-16 does") as doubt:
        find_coding(write(tmp_path, text.encode(encoding)))
    assert doubt.value.meanings[0][1] == {"encoding": guess}
    with pytest.raises(UsageError, match=f"iconv -f {guess} -t utf-8 here > here.utf8"):
        decode(text.encode(encoding), "here")


def test_lines_of_old_macs_end_in_a_carriage_return(tmp_path):
    for content in (b"a\rb\r", b"\xef\xbb\xbfa\rb", "a\rb\r".encode("utf-16")):
        path = write(tmp_path, content)
        coding = find_coding(path)
        assert [line.rstrip("\r") for _, line in lines(path, coding)] == ["a", "b"]
        assert str(coding).endswith("lines that end in a carriage return alone")
        assert decode(content, "a")[0] == ["a", "b"]


def test_a_carriage_return_inside_of_a_line_is_text(tmp_path):
    path = write(tmp_path, b"a\rb\nc\r\n")
    assert list(lines(path, find_coding(path))) == [(1, "a\rb\n"), (2, "c\r\n")]
    assert decode(b"a\rb\nc\r\n", "a")[0] == ["a\rb", "c"]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (
            b"abc\nd\xe9f\n",
            None,
            "line 2: expected UTF-8; byte 2 of the line is 0xe9.*if 'déf' is right: .*encoding: cp1252",
        ),
        (b"abc\nd\xe9f\n", "ascii", "line 2: expected ASCII; byte 2.*Set encoding of the source to another one"),
        (b"a\n\x81\n", "cp1252", "line 2: expected CP1252; byte 1 of the line is 0x81"),
        (b"a\nb\0c\n", "utf-8", "line 2: expected text; got a NUL byte"),
        (b"a\n" * 99_999 + b"b\0c\n", None, "line 100000: expected text; got a NUL byte"),
        ("\ufeffa\nb\0c\n".encode("utf-16-le"), None, "line 2: expected text; got a NUL byte"),
        (b"\xff\xfea\0\n\0\x00\xd8b\0", None, "expected UTF-16-LE; illegal"),
        (b"a\n", "utf9", "expected encoding to be one that Python knows.*got utf9"),
        (b"a\n", "hex", "expected encoding to be one that Python knows.*got hex"),
        ("\ufeffa\n".encode(), "latin1", "begins with the byte order mark of UTF-8; encoding is set to latin1"),
        ("a\n".encode("utf-16"), "utf-8", "begins with the byte order mark of UTF-16-LE; encoding is set to utf-8"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, content, encoding, message):
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=message) as error:
        list(lines(path, find_coding(path, encoding)))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nd\xe9f", "expected UTF-8 in here; line 2 is not. Convert it, where it is cp1252, with: iconv -f cp1252"),
        (b"\xff\xfea\0b", "expected UTF-16-LE, as its byte order mark says, in here; line 1 is not"),
    ],
)
def test_a_whole_text_that_is_not_in_its_encoding_is_refused(content, message):
    with pytest.raises(UsageError, match=message):
        decode(content, "here")


def test_what_every_file_is_expected_to_be_needs_no_words():
    assert Coding().plain
    assert not Coding("utf-16-le").plain
    assert not Coding(ends="\r").plain
