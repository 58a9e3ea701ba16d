from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from inbatch.callbacks import checkpoint
from inbatch.callbacks.checkpoint import WholeFiles, is_whole, resumable, step_of
from inbatch.errors import InbatchError


def content(step: int) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"w": torch.full((1000,), float(step))}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint(content(3), path)
    return path


def test_what_is_saved_is_loaded(saved: Path):
    loaded = WholeFiles().load_checkpoint(saved)
    assert torch.equal(loaded["state_dict"]["w"], content(3)["state_dict"]["w"])
    assert step_of(saved) == 3
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]
    WholeFiles().remove_checkpoint(saved)
    WholeFiles().remove_checkpoint(saved)
    assert not saved.exists()


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file data/0")],
)
def test_a_save_that_fails_keeps_the_old_file_and_says_so_later(
    saved: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
):
    def save(content: Any, file: Any) -> None:
        file.write(b"half")
        raise failure

    monkeypatch.setattr(checkpoint.torch, "save", save)
    files = WholeFiles()
    files.save_checkpoint(content(4), saved)
    monkeypatch.undo()
    with pytest.raises(InbatchError, match=r"cannot write .*last\.ckpt: .*; the one of step 3 is kept") as error:
        files.raise_failure(saved)
    assert error.value.exit_code == 1
    files.raise_failure(saved)  # told once
    assert step_of(saved) == 3
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_best_that_fails_says_that_the_last_is_there(saved: Path):
    files = WholeFiles()
    files.save_checkpoint(content(4), saved.parent / "not there" / "best.ckpt")
    with pytest.raises(InbatchError, match="the one of step 3 is kept"):
        files.raise_failure(saved.parent / "best.ckpt")


def test_a_first_save_that_fails_says_that_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = WholeFiles()
    files.save_checkpoint(content(1), tmp_path / "not there" / "last.ckpt")
    with pytest.raises(InbatchError, match="No such file or directory; there is no earlier one"):
        files.raise_failure(tmp_path / "not there" / "last.ckpt")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damage_is_seen(saved: Path, damage: str):
    assert is_whole(saved)
    raw = bytearray(saved.read_bytes())
    raw[len(raw) // 2] ^= 1
    saved.write_bytes({"cut": raw[:-100], "flip": raw, "empty": b""}[damage])
    assert not is_whole(saved)
    with pytest.raises(InbatchError, match=r"last\.ckpt is damaged. Remove it, or set --fresh"):
        WholeFiles().load_checkpoint(saved)
    with pytest.raises(InbatchError, match="is damaged, and there is no other"):
        resumable(saved.parent)


def test_resumable_prefers_the_last_and_falls_back_to_the_best(saved: Path):
    best = saved.with_name("best.ckpt")
    WholeFiles().save_checkpoint(content(2), best)
    assert resumable(saved.parent) == saved
    saved.write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"resuming from best\.ckpt, an earlier state"):
        assert resumable(saved.parent) == best
    saved.unlink()
    assert resumable(saved.parent) == best
    best.unlink()
    assert resumable(saved.parent) is None
