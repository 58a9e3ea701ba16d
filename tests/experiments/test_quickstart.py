"""The quick start's table comes from the run folder, and its parts are those of the program."""

import json

import pytest

from inbatch.errors import InbatchError
from inbatch.experiments import quickstart


def numbers(prefix, value):
    return {
        f"{prefix}/retrieval/{part}{metric}": value
        for part in ("", "without_near_duplicates/")
        for metric in quickstart.METRICS
    }


def test_before_and_after_side_by_side(tmp_path):
    lines = [{"step": 0, **numbers("val", 0.7)}, {"step": 1, "train/loss": 2.0}, {"step": 4, **numbers("test", 0.75)}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    screen = quickstart.comparison(tmp_path)
    assert screen.count("+0.0500") == 8
    assert "mrr, without near-duplicates" in screen


def test_a_run_without_metrics_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "train/loss": 2.0}) + "\n")
    with pytest.raises(InbatchError, match="metrics before and after"):
        quickstart.comparison(tmp_path)


def test_a_failed_training_is_its_exit_code(monkeypatch, capsys):
    assert quickstart.main(["--no_such_option=1"]) == 2
    assert "no_such_option" in capsys.readouterr().err


def test_trains_compares_and_searches(tmp_path, monkeypatch, capsys):
    lines = [{"step": 0, **numbers("val", 0.7)}, {"step": 4, **numbers("test", 0.75)}]
    calls = []

    def command(arguments):
        calls.append(arguments)
        if arguments[0] == "fit":
            (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return 0

    monkeypatch.setattr(quickstart, "RUN", str(tmp_path))
    monkeypatch.setattr(quickstart.cli, "main", command)
    assert quickstart.main() == 0
    assert [call[0] for call in calls] == ["fit", "search"]
    assert calls[1].count("--query") == len(quickstart.QUERIES)
    assert f"--logdir {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "name"), [(["--fresh"], "run-2"), (["--run_dir=other"], "other"), (["--fresh=false"], "run")]
)
def test_all_parts_speak_of_the_same_folder(arguments, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    calls = []

    def command(arguments):
        calls.append(arguments)
        folder = tmp_path / arguments[arguments.index("--run_dir") + 1] if arguments[0] == "fit" else None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            lines = [{"step": 0, **numbers("val", 0.7)}, {"step": 4, **numbers("test", 0.75)}]
            (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return 0

    monkeypatch.setattr(quickstart, "RUN", "run")
    monkeypatch.setattr(quickstart.cli, "main", command)
    assert quickstart.main([*arguments, "--trainer.max_steps=1"]) == 0
    assert calls[0][3:] == ["--run_dir", name, "--trainer.max_steps=1"]
    assert calls[1][1] == f"{name}/export"
    assert f"--logdir {name}" in capsys.readouterr().out
