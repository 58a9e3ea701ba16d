from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from format_files import coding_of

from inbatch.data.formats.decoding import _HEAD_BYTES, Coding, decode, lines
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError

TEXT = "Grüße, 你好\nzwei \u2028 noch zwei\n\nمرحبا\r\n"
NUMBERED = [(1, "Grüße, 你好\n"), (2, "zwei \u2028 noch zwei\n"), (3, "\n"), (4, "مرحبا\r\n")]


def typed(folder: Path, error, start: str, **files: bytes) -> dict[str, bytes]:
    """Type the command that stands behind ``start`` in a message, up to a semicolon, and return the files that it made."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = set(folder.iterdir())
    subprocess.run(str(error.value).partition(start)[2].partition("; if")[0], shell=True, check=True, cwd=folder)
    made = set(folder.iterdir()) - before
    found = {path.name: path.read_bytes() for path in made}
    for path in made:
        path.unlink()
    return found


def write(folder: Path, content: bytes) -> Path:
    (folder / "a.txt").write_bytes(content)
    return folder / "a.txt"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    path = write(tmp_path, TEXT.encode(encoding))
    coding = coding_of(path)
    assert list(lines(path, coding)) == NUMBERED
    assert coding.name == {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(encoding, "utf-8")
    assert decode(path.read_bytes(), "a")[0] == [line.rstrip("\r\n") for _, line in NUMBERED]


def test_big_endian_marks_and_two_marks_in_a_row(tmp_path):
    path = write(tmp_path, ("\ufeff" + TEXT).encode("utf-16-be"))
    assert list(lines(path, coding_of(path))) == NUMBERED
    path = write(tmp_path, ("\ufeff\ufeff" + TEXT).encode())
    assert list(lines(path, coding_of(path))) == NUMBERED


def test_a_mark_at_the_beginning_of_a_later_line_is_of_a_file_put_behind_another(tmp_path):
    path = write(tmp_path, "\ufeffa\n\ufeffb\n".encode())
    assert [line for _, line in lines(path, coding_of(path))] == ["a\n", "b\n"]
    assert decode(path.read_bytes(), "a")[0] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Grüße\né\n", "cp1252"), ("你好\n吗\n", "gb18030"), ("テスト\n", "shift_jis"), ("a\n你\n", "utf-16-le")],
)
def test_the_user_may_name_the_encoding(tmp_path, text, encoding):
    path = write(tmp_path, text.encode(encoding))
    assert "".join(line for _, line in lines(path, coding_of(path, encoding))) == text


@pytest.mark.parametrize(("encoding", "guess"), [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")])
@pytest.mark.parametrize("text", ["anchor,positive\na,b\n", "问题,答案\n你好,您好\n", "a\n"])
def test_utf_16_without_a_mark_is_refused_with_its_name(tmp_path, text, encoding, guess):
    with pytest.raises(Doubt, match="NUL bytes, as UTF-16 does") as doubt:
        coding_of(write(tmp_path, text.encode(encoding)))
    assert doubt.value.meanings[0][1] == {"encoding": guess}
    with pytest.raises(UsageError, match="expected UTF-8 in here; line 1 is not. Convert it") as error:
        decode(text.encode(encoding), "here")
    assert typed(tmp_path, error, "with: ", here=text.encode(encoding)) == {"mended-here": text.encode()}


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_without_a_mark_is_not_taken_for_utf_16(tmp_path, encoding):
    with pytest.raises(Doubt, match="NUL bytes, as UTF-32 does") as doubt:
        coding_of(write(tmp_path, "a\n\U0001f600\n".encode(encoding)))
    assert [more for _, more in doubt.value.meanings] == [{"encoding": encoding}]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [TEXT, "a\n", "\u4f60\u597d"])
def test_an_encoding_named_without_the_order_of_its_bytes_needs_a_mark(tmp_path, encoding, text):
    path = write(tmp_path, text.encode(encoding))
    with pytest.raises(Doubt, match="expected a byte order mark, as encoding UTF_.* there is none") as doubt:
        coding_of(path, encoding[:6].upper().replace("-", "_"))
    meant = [more["encoding"] for _, more in doubt.value.meanings]
    assert encoding in meant[: 1 if "a" in text or "2" in encoding else 2]
    assert "".join(line for _, line in lines(path, coding_of(path, encoding))) == text


@pytest.mark.parametrize(
    ("typed_name", "encoding"),
    [("utf8", "utf-8-sig"), ("UTF_8", "utf-8-sig"), ("utf-8-sig", "utf-8-sig"), ("utf16", "utf-16"), ("U16", "utf-16"), ("u32", "utf-32")],
)  # fmt: skip
def test_aliases_are_one_encoding(tmp_path, typed_name, encoding):
    path = write(tmp_path, TEXT.encode(encoding))
    assert coding_of(path, typed_name).name == coding_of(path).name
    assert list(lines(path, coding_of(path, typed_name))) == NUMBERED


def test_bytes_are_cut_into_lines_only_where_a_line_feed_is_one_byte(tmp_path):
    path = write(tmp_path, "ab\nc%d\n".encode("cp037"))
    assert list(lines(path, coding_of(path, "cp037"))) == [(1, "ab\n"), (2, "c%d\n")]


def test_lines_of_old_macs_end_in_a_carriage_return(tmp_path):
    for content in (b"a\rb\r", b"\xef\xbb\xbfa\rb", "a\rb\r".encode("utf-16")):
        path = write(tmp_path, content)
        coding = coding_of(path)
        assert [line.rstrip("\r") for _, line in lines(path, coding)] == ["a", "b"]
        assert str(coding).endswith("lines that end in a carriage return alone")
        assert decode(content, "a")[0] == ["a", "b"]


def test_a_line_end_at_the_end_of_the_first_bytes_is_seen_whole(tmp_path):
    for size in range(_HEAD_BYTES - 2, _HEAD_BYTES + 2):
        content = b"a" * size + b"\r\nb\r\n"
        path = write(tmp_path, content)
        assert [line.rstrip() for _, line in lines(path, coding_of(path))] == ["a" * size, "b"]
        assert decode(content, "a")[0] == ["a" * size, "b"]
    assert coding_of(write(tmp_path, b"a" * (_HEAD_BYTES - 1) + b"\r")).ends == "\r"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["it's a.txt", "a.txt.gz"])
def test_line_ends_of_two_kinds_are_refused_with_the_lines_that_make_them_one(tmp_path, name, encoding):
    text = "a\rb" + "b" * _HEAD_BYTES + "\rc\nd\r\ne"
    content, path = text.encode(encoding), tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UsageError, match="line 3: expected lines that end in a carriage return alone") as error:
        list(lines(path, coding_of(path)))
    with pytest.raises(UsageError, match="line 3: expected lines that end in a carriage return alone") as whole:
        decode(content, str(path))
    assert str(whole.value) == str(error.value)
    for start, expected in (
        ("ends a line: ", ["a", "b" + "b" * _HEAD_BYTES, *"cde"]),
        ("if none does: ", ["ab" + "b" * _HEAD_BYTES + "c", "d", "e"]),
    ):
        (made,) = typed(tmp_path, error, start).values()
        assert decode(made, "made")[0] == expected


def test_a_carriage_return_inside_of_a_line_is_text(tmp_path):
    path = write(tmp_path, b"a\rb\nc\r\n")
    assert list(lines(path, coding_of(path))) == [(1, "a\rb\n"), (2, "c\r\n")]
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
        (b"a\n", "idna", "expected encoding to be one that Python knows.*got idna"),
        (b"a\n", "", "expected encoding to be one that Python knows"),
        (b"a-999999999\n", "punycode", "after line 0: expected PUNYCODE; Invalid extended code point"),
        (b"a\n", "hex", "expected encoding to be one that Python knows.*got hex"),
        ("\ufeffa\n".encode(), "latin1", "begins with the byte order mark of UTF-8; encoding is set to latin1"),
        ("a\n".encode("utf-16"), "utf-8", "begins with the byte order mark of UTF-16-LE; encoding is set to utf-8"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, content, encoding, message):
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=message) as error:
        list(lines(path, coding_of(path, encoding)))
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


@pytest.mark.parametrize("name", ["it's a.b.txt", "a.csv.gz", "a"])
@pytest.mark.parametrize(("encoding", "named"), [("utf-8", "utf-8"), ("utf-16", None), ("utf-16-be", "utf_16_be")])
def test_nul_bytes_are_refused_with_the_line_that_removes_them(tmp_path, name, encoding, named):
    path, content = tmp_path / name, "a\nb\0\u0100c\n".encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UsageError, match="line 2: expected text; got a NUL byte") as error:
        list(lines(path, coding_of(path, named)))
    ((new, made),) = typed(tmp_path, error, "Remove such bytes: ").items()
    assert new == f"mended-{name.removesuffix('.gz')}"
    (tmp_path / new).write_bytes(made)
    assert [text for _, text in lines(tmp_path / new, coding_of(tmp_path / new, named))] == ["a\n", "b\u0100c\n"]


@pytest.mark.parametrize("name", ["it's a.txt", "a.txt.gz"])
def test_a_text_that_is_not_utf_8_is_refused_with_the_line_that_converts_it(tmp_path, name):
    content = "caf\u00e9\n".encode("cp1252")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UsageError, match="line 1 is not") as error:
        decode(content, str(tmp_path / name))
    assert list(typed(tmp_path, error, "with: ").values()) == ["caf\u00e9\n".encode()]
    with pytest.raises(UsageError, match="expected UTF-8 in stdin; line 1 is not") as error:
        decode(content, "-")
    line = str(error.value).partition("with: ")[2]
    assert (
        subprocess.run(line, shell=True, check=True, input=content, capture_output=True).stdout.decode()
        == "caf\u00e9\n"
    )
    with pytest.raises(UsageError, match=r"stdin, line 1: .*Remove such bytes: tr -d '\\000'$"):
        decode(b"\xef\xbb\xbfa\0b\n", "-")


def test_what_every_file_is_expected_to_be_needs_no_words():
    assert Coding().plain
    assert not Coding("utf-16-le").plain
    assert not Coding(ends="\r").plain
