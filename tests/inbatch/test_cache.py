from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from inbatch.cache import cache_folder, cached_table
from inbatch.errors import UsageError

SCHEMA = pa.schema({"text": pa.string()})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INBATCH_CACHE", str(folder))
    return folder


class Maker:
    """Makes a table of the texts given, in batches of one, and counts how often."""

    def __init__(self, *texts: str):
        self.texts, self.calls = texts, 0

    def __call__(self):
        self.calls += 1
        for text in self.texts:
            yield pa.record_batch({"text": [text]}, schema=SCHEMA)


def test_a_table_is_made_once_for_a_key_and_again_for_another(cache: Path):
    make = Maker("a", "b")
    for key in ("one", "one", "two", "one"):
        assert cached_table("t", key, SCHEMA, make)["text"][:] == ["a", "b"]
    assert make.calls == 3
    assert [path.name for path in cache.iterdir()] == ["t.arrow"]


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "cut between batches"])
def test_a_damaged_table_is_made_again(cache: Path, damage: str):
    make = Maker("a" * 100, "b" * 100, "c" * 100)
    cached_table("t", "key", SCHEMA, make)
    path = cache / "t.arrow"
    whole = path.read_bytes()
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_stream(file)
        reader.read_next_batch()
        end_of_first_batch = file.tell()
    path.write_bytes(
        {
            "empty": b"",
            "noise": os.urandom(500),
            "cut": whole[: len(whole) // 2],
            "cut between batches": whole[:end_of_first_batch],
        }[damage]
    )
    assert len(cached_table("t", "key", SCHEMA, make)) == 3
    assert make.calls == 2
    assert path.read_bytes() == whole


def test_nothing_is_left_behind_where_making_fails(cache: Path):
    def fail():
        yield pa.record_batch({"text": ["a"]}, schema=SCHEMA)
        raise UsageError("bad row")

    with pytest.raises(UsageError, match="bad row"):
        cached_table("t", "key", SCHEMA, fail)
    assert list(cache.iterdir()) == []


def test_a_failure_keeps_the_table_that_was_there(cache: Path):
    cached_table("t", "old", SCHEMA, Maker("a"))

    def fail():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        cached_table("t", "new", SCHEMA, fail)
    again = Maker("b")
    assert cached_table("t", "old", SCHEMA, again)["text"][:] == ["a"]
    assert again.calls == 0


def test_an_unwritable_folder_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match="INBATCH_CACHE"):
        cached_table("t", "key", SCHEMA, Maker("a"))


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"INBATCH_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ("linux", {"XDG_CACHE_HOME": "/b"}, "/b/inbatch"),
        ("linux", {}, "/home/me/.cache/inbatch"),
        ("darwin", {}, "/home/me/Library/Caches/inbatch"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/inbatch"),
        ("win32", {}, "/home/me/AppData/Local/inbatch"),
    ],
)
def test_the_folder_follows_the_variables_then_the_platform(monkeypatch, platform, variables, expected):
    for name in ("INBATCH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)
