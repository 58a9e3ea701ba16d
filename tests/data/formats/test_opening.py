import bz2
import gzip
import shlex
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from inbatch.data.formats.opening import compression_of, open_bytes, suffix_of, through
from inbatch.errors import UsageError

CONTENT = b"anchor,positive\n" + b"a,b\n" * 50_000


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


PACK = {".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress}


@pytest.mark.parametrize(
    ("name", "suffix", "compression"),
    [
        ("a.csv", ".csv", None),
        ("A.CSV", ".csv", None),
        ("A.Jsonl.GZ", ".jsonl", "gzip"),
        ("a.b.txt.Zst", ".txt", "zstd"),
        ("a.ndjson", ".jsonl", None),
        ("a.JSONLINES.bz2", ".jsonl", "bz2"),
        ("folder.gz/a", "", None),
        ("a.gz", "", "gzip"),
    ],
)
def test_the_name_says_format_and_compression(name, suffix, compression):
    assert (suffix_of(name), compression_of(Path(name))) == (suffix, compression)


@pytest.mark.parametrize("ending", ["", *PACK, ".GZ"])
def test_the_bytes_are_those_of_the_file(tmp_path, ending):
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending.lower()](CONTENT) if ending else CONTENT)
    with open_bytes(path) as file:
        assert file.read(10) == CONTENT[:10]
        assert file.readline() == b"itive\n"
        assert file.read() == CONTENT[16:]


@pytest.mark.parametrize("ending", PACK)
def test_files_written_one_behind_the_other_are_read_as_one(tmp_path, ending):
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(PACK[ending](b"one\n") + PACK[ending](b"two\n"))
    assert open_bytes(path).read() == b"one\ntwo\n"


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("harm", [lambda b: b[:-3], lambda b: b[: len(b) // 2], lambda b: b[:5], lambda b: b + b"rest"])
def test_what_is_cut_off_or_damaged_is_refused_in_one_sentence(tmp_path, ending, harm):
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(harm(PACK[ending](CONTENT)))
    with (
        pytest.raises(UsageError, match="expected a whole file compressed with .* copy or download it again") as error,
        open_bytes(path) as file,
    ):
        file.read()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "right"),
    [
        ("a.csv", gzip.compress(CONTENT), "a.csv.gz"),
        ("it's a.TXT", zstd(CONTENT), "it's a.TXT.zst"),
        ("a.jsonl.gz", b'{"a": 1}\n', "a.jsonl"),
        ("a.jsonl.gz", bz2.compress(CONTENT), "a.jsonl.bz2"),
    ],
)
def test_a_name_that_says_another_compression_is_refused_with_the_line_that_renames_it(tmp_path, name, content, right):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match="as its name says") as error:
        open_bytes(tmp_path / name)
    subprocess.run(str(error.value).partition("Rename it: ")[2], shell=True, check=True)
    assert [path.name for path in tmp_path.iterdir()] == [right]
    assert len(open_bytes(tmp_path / right).read()) > 5
    assert shlex.split(str(error.value).partition("Rename it: ")[2])[:2] == ["mv", "-n"]


@pytest.mark.parametrize("ending", ["", *PACK, ".GZ"])
def test_a_file_is_sent_through_programs_into_one_of_its_own_name(tmp_path, ending):
    for name in ("a.b.csv", "it's a.c.csv"):  # neither takes the place of the other
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(PACK[ending.lower()](b"a\nb\nc\n") if ending else b"a\nb\nc\n")
        subprocess.run(through(path, "sed 1d", "tr b x"), shell=True, check=True)
        assert (tmp_path / f"mended-{name}").read_bytes() == b"x\nc\n"
        subprocess.run(through(path, "sed 1d", name=f"new-{name}"), shell=True, check=True)
        assert (tmp_path / f"new-{name}").read_bytes() == b"b\nc\n"


def test_programs_of_standard_input_stand_alone():
    assert through("-", "sed 1d", "tr b x") == "sed 1d | tr b x"


def test_a_part_of_an_archive_can_be_read_without_the_rest(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(CONTENT * 100)[:-4])
    with open_bytes(path) as file:
        assert file.readline() == b"anchor,positive\n"


def test_an_empty_file_is_empty_whatever_it_is_called(tmp_path):
    (tmp_path / "a.txt.gz").touch()
    assert open_bytes(tmp_path / "a.txt.gz").read() == b""
