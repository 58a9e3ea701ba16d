from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from inbatch.files import NOT_SUPPORTED, give_usual_mode, replace_by_link, replace_file


def test_replace_file_replaces_at_the_end(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("old")
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


def test_replace_file_gives_the_usual_permissions(tmp_path: Path):
    (tmp_path / "usual").write_text("")
    with replace_file(tmp_path / "x") as file:
        file.write(b"")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_decides_who_reads(tmp_path: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        with replace_file(tmp_path / "x") as file:
            file.write(b"")
        (tmp_path / "private").touch(0o600)
        give_usual_mode(tmp_path / "private")
        (tmp_path / "program").touch(0o700)
        give_usual_mode(tmp_path / "program")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"x": mode, "private": mode, "program": mode | 0o100}


@pytest.mark.parametrize("code", NOT_SUPPORTED)
def test_a_file_system_without_modes_and_flushing_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    with replace_file(tmp_path / "x") as file:
        file.write(b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_disk_that_fails_while_flushing_is_no_file_system_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), replace_file(tmp_path / "x") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == []


def test_replace_file_leaves_the_old_one_after_an_error(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("old")

    def fail() -> None:
        with replace_file(path) as file:
            file.write(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_an_error_behind_the_renaming_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(folder: Path):
        raise KeyboardInterrupt

    monkeypatch.setattr("inbatch.files._sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt), replace_file(tmp_path / "x") as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("links", [True, False])
def test_replace_by_link_gives_a_second_name(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch):
    if not links:

        def refuse(*_: object) -> None:
            raise OSError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    replace_by_link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"
    with replace_file(tmp_path / "a") as file:
        file.write(b"newer")
    assert (tmp_path / "b").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
