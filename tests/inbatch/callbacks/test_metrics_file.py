from __future__ import annotations

import json
from pathlib import Path

from inbatch.callbacks.metrics_file import MetricsFile, cut, read


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read(path)]


def test_numbers_are_there_at_once_and_json_has_no_nan(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsFile(path)
    log.log_metrics({"a": 1, "b": float("nan")}, 3)
    assert path.read_text() == '{"step": 3, "a": 1.0, "b": null}\n'
    log.save()
    log.finalize("success")


def test_a_resumed_run_cuts_what_came_after_its_checkpoint(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for step in range(1, 6):
        first.log_metrics({"a": step}, step)
    with path.open("a") as file:
        file.write('{"step": 6, "a"')  # died here
    resumed = MetricsFile(path, last_step=3)
    resumed.log_metrics({"a": 0.5}, 4)
    assert [(line["step"], line["a"]) for line in read(path)] == [(1, 1), (2, 2), (3, 3), (4, 0.5)]


def test_a_run_without_checkpoint_starts_an_empty_file(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "a": 1}\n')
    MetricsFile(path).log_metrics({"a": 2}, 0)
    assert [line["a"] for line in read(path)] == [2]


def test_the_final_test_is_made_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({"step": 1, "a": 1}, {"step": 1, "test/x/y": 2})))
    cut(path, 1)
    assert read(path) == [{"step": 1, "a": 1}]


def test_a_finalized_file_is_taken_up_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsFile(path)
    log.log_metrics({"a": 1}, 1)
    log.finalize("success")
    log.finalize("success")
    log.log_metrics({"a": 2}, 2)
    log.log_hyperparams({})
    assert steps(path) == [1, 2]
    assert (log.name, log.version) == ("metrics.jsonl", "")
