from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from inbatch.errors import UsageError
from inbatch.run_folder import RunFolder, differing_keys, digest, identity

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"devices": 1, "strategy": "auto", "max_steps": 10, "logger": None},
    "model": {"objective": {"class_path": "x.Y", "init_args": {"temperature": 0.05}}},
    "data": {"sources": ["a.csv"], "num_workers": 0},
    "run_dir": None,
}


def changed(**settings: Any) -> dict[str, Any]:
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for key, value in settings.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def test_identity_keeps_what_changes_the_mathematics_only():
    assert identity(CONFIG) == {
        "seed_everything": 0,
        "trainer.max_steps": 10,
        "model.objective.class_path": "x.Y",
        "model.objective.init_args.temperature": 0.05,
        "data.sources": ["a.csv"],
    }


def test_digest_ignores_place_and_speed():
    assert len(digest(CONFIG)) == 8
    elsewhere = changed(trainer__devices=4, trainer__strategy="ddp", trainer__logger=False, data__num_workers=3)
    assert digest(elsewhere | {"run_dir": "elsewhere", "fresh": True}) == digest(CONFIG)
    assert digest(changed(trainer__max_steps=11)) != digest(CONFIG)
    assert digest(changed(data__sources=["b.csv"])) != digest(CONFIG)


def test_differing_keys_names_old_and_new():
    new = changed(trainer__max_steps=11, trainer__precision="bf16-mixed", trainer__devices=2)
    assert differing_keys(CONFIG, new) == [
        "trainer.max_steps: 10 -> 11",
        "trainer.precision: absent -> bf16-mixed",
    ]


def test_choose_names_the_folder_by_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert RunFolder.choose(CONFIG, "row").path == Path("runs") / f"row-{digest(CONFIG)}"
    assert RunFolder.choose(CONFIG, "row", "mine").path == Path("mine")
    assert RunFolder.choose(CONFIG, "row", "mine", fresh=True).path == Path("mine")
    Path("mine").mkdir()
    Path("mine-2").mkdir()
    assert RunFolder.choose(CONFIG, "row", "mine", fresh=True).path == Path("mine-3")


def started(path: Path, config: dict[str, Any] = CONFIG) -> RunFolder:
    folder = RunFolder(path)
    folder.claim(config)
    folder.record(yaml.safe_dump(config), {"command": "inbatch fit"})
    return folder


def test_a_run_folder_records_each_start_and_its_result(tmp_path: Path):
    folder = started(tmp_path / "run")
    assert folder.result() is None
    started(tmp_path / "run")
    assert len(folder.starts()) == 2
    folder.finish({"steps": 3})
    assert folder.result() == {"steps": 3}
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == CONFIG
    assert json.loads((folder.path / "run.json").read_text())["starts"][0] == {"command": "inbatch fit"}


def test_claim_refuses_another_configuration_and_names_the_keys(tmp_path: Path):
    started(tmp_path / "run")
    with pytest.raises(UsageError, match=r"trainer\.max_steps: 10 -> 11.*--run_dir.*--fresh"):
        RunFolder(tmp_path / "run").claim(changed(trainer__max_steps=11))
    RunFolder(tmp_path / "run").claim(changed(trainer__devices=8))


def test_claim_names_at_most_five_keys(tmp_path: Path):
    started(tmp_path / "run")
    other = changed(**{f"model__n{i}": i for i in range(9)})
    with pytest.raises(UsageError, match="and 4 more"):
        RunFolder(tmp_path / "run").claim(other)


def test_claim_refuses_a_file_and_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file. Set --run_dir"):
        RunFolder(tmp_path / "file").claim(CONFIG)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(UsageError, match=r"holds chapter1\.tex and no config\.yaml"):
        RunFolder(tmp_path / "thesis").claim(CONFIG)
    RunFolder(tmp_path / "thesis").discard_if_new()
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_claim_refuses_a_folder_that_a_live_process_holds_but_not_a_dead_one(tmp_path: Path):
    hold = "import sys; from inbatch.run_folder import RunFolder; f = RunFolder(sys.argv[1]); f.claim({}); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError, match=rf"a live run holds .*process {holder.pid} on "):
            RunFolder(tmp_path / "run").claim({})
        holder.kill()
    RunFolder(tmp_path / "run").claim({})


def test_claim_removes_what_a_dead_writer_left(tmp_path: Path):
    folder = started(tmp_path / "run")
    halves = [folder.checkpoints / ".last.ckpt.a1b2", folder.path / ".run.json.c3d4"]
    for half in halves:
        half.write_text("half")
    whole = folder.checkpoints / "last.ckpt"
    whole.write_text("whole")
    folder.claim(CONFIG)
    assert whole.exists()
    assert not any(half.exists() for half in halves)


def test_claim_touches_nothing_of_a_folder_that_it_refuses(tmp_path: Path):
    for name in (".pre-commit-config.yaml", ".env.local", "notes.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"holds .env.local and no config.yaml"):
        RunFolder(tmp_path).claim(CONFIG)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".env.local", ".pre-commit-config.yaml", "notes.txt"]


def test_claim_leaves_an_export_that_was_being_written_to_the_next_export(tmp_path: Path):
    started(tmp_path / "run")._lock.close()  # type: ignore[union-attr]
    for name in (".export.tmp", ".export.old"):
        (tmp_path / "run" / name).mkdir()
    RunFolder(tmp_path / "run").claim(CONFIG)
    assert (tmp_path / "run" / ".export.old").is_dir()


def test_discard_keeps_what_was_measured(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG)
    folder.metrics.write_text('{"step": 1}\n')
    folder.discard_if_new()
    assert folder.metrics.exists()


def test_discard_removes_a_new_folder_without_checkpoints_only(tmp_path: Path):
    new = started(tmp_path / "new")
    new.discard_if_new(keep=True)
    assert new.path.exists()
    new.discard_if_new()
    assert not new.path.exists()
    trained = started(tmp_path / "trained")
    (trained.checkpoints / "last.ckpt").write_text("x")
    trained.discard_if_new()
    assert trained.path.exists()
    found = started(tmp_path / "trained")
    os.remove(found.checkpoints / "last.ckpt")
    found.discard_if_new()
    assert found.path.exists()


def test_keep_traceback_appends(tmp_path: Path):
    folder = started(tmp_path / "run")
    for number in range(2):
        try:
            raise RuntimeError(f"failure {number}")
        except RuntimeError:
            assert folder.keep_traceback() == f"traceback in {tmp_path / 'run' / 'error.txt'}"
    text = (folder.path / "error.txt").read_text()
    assert text.count("Traceback") == 2
    assert "failure 0" in text
    assert "failure 1" in text


def test_keep_traceback_says_where_it_cannot_write(tmp_path: Path):
    folder = started(tmp_path / "run")
    (folder.path / "error.txt").mkdir()
    assert "cannot be written: Is a directory" in folder.keep_traceback()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_no_live_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    folder = started(tmp_path / "run")
    said = capsys.readouterr().err
    assert said == f"{folder.path} cannot be locked ({os.strerror(code)}): two live runs in it are not prevented\n"
    assert f"process {os.getpid()} on " in (folder.path / ".lock").read_text()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EAGAIN])
def test_what_another_process_has_locked_is_a_live_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(UsageError, match="a live run holds"):
        RunFolder(tmp_path / "run").claim(CONFIG)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=rf"can be written; got .*run: {os.strerror(code)}. Set --run_dir."):
        RunFolder(tmp_path / "run").claim(CONFIG)


def test_a_file_in_the_path_of_the_folder_is_refused_and_a_full_disk_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory. Set --run_dir"):
        RunFolder(tmp_path / "file" / "run").claim(CONFIG)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        RunFolder(tmp_path / "run").claim(CONFIG)


def test_the_data_of_the_last_start_are_known(tmp_path: Path):
    folder = started(tmp_path / "run")
    assert folder.recorded("data") is None
    folder.record("", {"data": [{"source": "a"}]})
    assert folder.recorded("data") == [{"source": "a"}]
