"""A folder is replaced as a whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from inbatch.models.export import folders
from inbatch.models.export.folders import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def target(request, tmp_path, monkeypatch):
    """Return a folder with one file, to be replaced with and without the system's exchange."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "_exchange", lambda a, b: False)
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    return path


def test_a_new_folder_appears_with_its_parents(tmp_path):
    with replacing(tmp_path / "a" / "b") as temporary:
        assert temporary.parent == tmp_path / "a"
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert names(tmp_path / "a") == ["b"]
    assert (tmp_path / "a" / "b" / "sub" / "file").read_text() == "x"


def test_the_new_content_takes_the_place_of_the_old(target):
    with replacing(target) as temporary:
        (temporary / "new").write_text("new")
    assert names(target) == ["new"]
    assert names(target.parent) == ["model"]


def test_a_failure_leaves_the_old_content_and_nothing_else(target):
    def write():
        with replacing(target) as temporary:
            (temporary / "new").write_text("new")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write()
    assert names(target) == ["old"]
    assert names(target.parent) == ["model"]


def test_a_disk_that_fills_up_while_flushing_leaves_the_old_content(target, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(target) as temporary:
        (temporary / "new").write_text("new")
    assert names(target) == ["old"]
    assert names(target.parent) == ["model"]


def test_a_second_rename_that_fails_brings_the_old_content_back(target, monkeypatch):
    monkeypatch.setattr(folders, "_exchange", lambda a, b: False)
    rename = os.rename

    def failing(a, b):
        if str(a).endswith(".tmp"):
            raise OSError(errno.EIO, "broken")
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="broken"), replacing(target) as temporary:
        (temporary / "new").write_text("new")
    assert names(target) == ["old"]
    assert names(target.parent) == ["model"]


def test_what_killed_processes_left_is_cleared_or_brought_back(target):
    temporary, aside = folders._beside(target)
    os.rename(target, aside)
    temporary.mkdir()
    (temporary / "half").write_text("x")

    def write():
        with replacing(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write()
    assert names(target) == ["old"]
    assert names(target.parent) == ["model"]


def test_other_systems_have_no_exchange(target, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("sys.platform", "darwin")
    assert not folders._exchange(target, target)


def test_files_that_a_library_made_private_get_the_usual_mode(tmp_path: Path):
    with replacing(tmp_path / "x") as folder:
        (folder / "below").mkdir()
        for path in (folder / "weights", folder / "below" / "weights"):
            path.touch(0o600)
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "x").rglob("weights")} == {usual}
