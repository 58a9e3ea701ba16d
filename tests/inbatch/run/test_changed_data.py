"""A run that is given again notices that its data are others; a finished one still prints its result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from fit_helpers import ROWS, state

from inbatch.run.changed_data import VERSION, changes, note_on_changed_data

BROKEN = ("--trainer.callbacks=[{class_path: fit_parts.FailWhenAsked}]", "--trainer.max_steps=6")


def pairs(change: int | None = None, rows: int = ROWS) -> list[tuple[str, str]]:
    return [(f"{i} plus {i * i}?", f"{i + i * i} it is{'!' if i == change else ''}") for i in range(rows)]


def as_csv(path: Path, found: list[tuple[str, str]]) -> None:
    path.write_text("anchor,positive\n" + "".join(f"{a},{b}\n" for a, b in found))


def as_jsonl(path: Path, found: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"anchor": a, "positive": b}) + "\n" for a, b in found))


def as_parquet(path: Path, found: list[tuple[str, str]]) -> None:
    Dataset.from_dict({"anchor": [a for a, _ in found], "positive": [b for _, b in found]}).to_parquet(path)


def as_folder(path: Path, found: list[tuple[str, str]]) -> None:
    # A data set cannot be saved over itself.
    made = Dataset.from_dict({"anchor": [a for a, _ in found], "positive": [b for _, b in found]})
    made.save_to_disk(path.with_name("other"))
    if path.exists():
        for part in path.iterdir():
            part.unlink()
        path.rmdir()
    path.with_name("other").rename(path)


KINDS: dict[str, tuple[str, Callable[[Path, list[tuple[str, str]]], None]]] = {
    "csv": ("data.csv", as_csv),
    "jsonl": ("data.jsonl", as_jsonl),
    "parquet": ("data.parquet", as_parquet),
    "folder": ("saved", as_folder),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_does_not_go_on_with_other_rows_unless_it_is_told_to(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    name, write = KINDS[kind]
    options = ("--run_dir=run", f"--data.sources={name}", *BROKEN)
    write(run_folder / name, pairs())
    monkeypatch.setenv("FAIL_AT_STEP", "5")
    assert fit(*options).code == 1
    monkeypatch.delenv("FAIL_AT_STEP")
    noted = (run_folder / "run" / "run.json").read_text()

    write(run_folder / name, pairs(change=17))
    refused = fit(*options)
    assert refused.code == 2
    assert f"{name} (other texts)" in refused.err
    assert "--fresh=true" in refused.err
    assert (run_folder / "run" / "run.json").read_text() == noted
    assert state(run_folder / "run")["global_step"] == 3

    write(run_folder / name, pairs(rows=41))
    assert f"{name} (40 rows then, 41 now)" in fit(*options).err
    accepted = fit(*options, "--accept_changed_data=true")
    assert accepted.code == 0, accepted.err
    starts = json.loads((run_folder / "run" / "run.json").read_text())["starts"]
    assert [start["data"][0]["rows"] for start in starts] == [40, 41]


def test_the_same_rows_written_anew_go_on(fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAIL_AT_STEP", "5")
    assert fit("--run_dir=run", *BROKEN).code == 1
    monkeypatch.delenv("FAIL_AT_STEP")
    text = (run_folder / "pairs.csv").read_text()
    (run_folder / "pairs.csv").write_text(text.replace("\n", "\r\n"))
    done = fit("--run_dir=run", *BROKEN)
    assert done.code == 0, done.err


def test_a_change_that_keeps_size_and_time_is_seen_as_well(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    path = run_folder / "pairs.csv"
    monkeypatch.setenv("FAIL_AT_STEP", "5")
    assert fit("--run_dir=run", *BROKEN).code == 1
    before = path.stat()
    path.write_text(path.read_text().replace("7 plus", "8 plus", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert "pairs.csv (other texts)" in fit("--run_dir=run", *BROKEN).err


def test_a_finished_run_prints_its_result_with_a_note(fit: Callable[..., Any], run_folder: Path):
    options = ("--run_dir=run", "--trainer.max_steps=2", "--model.warmup_steps=0")
    assert fit(*options).code == 0
    assert "note:" not in fit(*options).out
    as_csv(run_folder / "pairs.csv", pairs(rows=39))
    again = fit(*options)
    assert again.code == 0
    assert again.out.startswith("finished before: 2 steps")
    assert "note: the data have changed since: pairs.csv (40 rows then, 39 now)" in again.out
    (run_folder / "pairs.csv").write_text("")
    assert "pairs.csv cannot be read as before" in fit(*options).out
    (run_folder / "pairs.csv").unlink()
    gone = fit(*options)
    assert (gone.code, "note:" in gone.out) == (0, False)


def test_a_run_that_has_trained_nothing_yet_begins_with_what_there_is(
    fit: Callable[..., Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAIL_AT_STEP", "2")
    assert fit("--run_dir=run", *BROKEN).code == 1
    monkeypatch.delenv("FAIL_AT_STEP")
    as_csv(run_folder / "pairs.csv", pairs(rows=41))
    assert fit("--run_dir=run", *BROKEN).code == 0


def noted(source: str, rows: int, letters: str, version: int = VERSION) -> dict[str, Any]:
    return {"source": source, "rows": rows, "version": version, "fingerprint": letters}


def test_each_source_is_compared_with_its_own():
    then = [noted("a", 3, "x"), noted("b", 4, "y"), noted("c", 5, "z", version=VERSION - 1)]
    now = [noted("a", 3, "x"), noted("b", 5, "u"), noted("c", 5, "w")]
    assert changes(then, now) == ["b (4 rows then, 5 now)"]
    assert changes([], now) == []  # a run of a version that noted nothing


def test_installed_packages_are_compared_as_a_file_is(monkeypatch: pytest.MonkeyPatch):
    from inbatch.data.sources import sources

    made = Dataset.from_dict({"anchor": ["a", "b"], "positive": ["c", "d"]})
    monkeypatch.setattr(sources, "environment_pairs", lambda split: made)
    then = [noted("environment", 3, "x")]
    assert note_on_changed_data(then, ["environment"]) == (
        "the data have changed since: environment (3 rows then, 2 now)"
    )
    assert note_on_changed_data(then, [{"path": "nobody/hub-set"}]) is None
