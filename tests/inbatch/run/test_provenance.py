from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from inbatch.run.provenance import commit, provenance


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(
        ["git", *who, "-C", str(folder), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_provenance_names_command_and_versions():
    facts = provenance("fit", ["--config", "a b.yaml"])
    assert facts["command"] == "inbatch fit --config 'a b.yaml'"
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["time"].endswith("+00:00")


def test_commit_marks_changes_and_is_absent_outside_of_the_repository(tmp_path: Path):
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None  # some other project's repository
    (tmp_path / "provenance.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "provenance.py").write_text("2")
    assert commit(tmp_path) == head + "+"
