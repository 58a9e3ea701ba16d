"""Data files of tests, written into a folder of their own, read, and refused with lines that are tried."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typed_lines import sources_in

from inbatch.data.formats.decoding import Coding, find_coding
from inbatch.data.formats.opening import open_bytes
from inbatch.data.sources.sources import Source, load
from inbatch.errors import UsageError

PAIRS = {"query": ["a b", "c \u00e9"], "answer": ["x y", "z \u2192"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, rows: list) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def read(path: str, **settings) -> dict:
    return load(Source(path, **settings)).rows[:]


def refused(path: str, match: str, **settings) -> list[Source]:
    """Return what the lines of a refusal say."""
    with pytest.raises(UsageError, match=match) as error:
        load(Source(path, **settings))
    assert error.value.exit_code == 2
    return sources_in(str(error.value))


def coding_of(path: Path, encoding: str | None = None) -> Coding:
    with open_bytes(path) as file:
        return find_coding(file, path, encoding)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()
