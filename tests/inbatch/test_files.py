from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from inbatch.files import replace_by_link, replace_file


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
