"""The quick start's parts are those of the program, and speak of one folder."""

import pytest

from inbatch.experiments import quickstart


def test_a_failed_training_is_its_exit_code(monkeypatch, capsys):
    assert quickstart.main(["--no_such_option=1"]) == 2
    assert "no_such_option" in capsys.readouterr().err


def test_trains_compares_and_searches(tmp_path, monkeypatch, capsys):
    calls = []

    def command(arguments):
        calls.append(arguments)
        return 0

    monkeypatch.setattr(quickstart, "RUN", str(tmp_path))
    monkeypatch.setattr(quickstart.cli, "main", command)
    assert quickstart.main() == 0
    assert [call[0] for call in calls] == ["fit", "search"]
    assert calls[1].count("--query") == len(quickstart.QUERIES)
    out = capsys.readouterr().out
    assert f"--logdir {tmp_path}" in out
    assert (
        f"search {tmp_path}/export environment --split test --max-length 64 --query" in out
    )  # kept in the cache by the search above


@pytest.mark.parametrize(
    ("arguments", "name"), [(["--fresh"], "run-2"), (["--run_dir=other"], "other"), (["--fresh=false"], "run")]
)
def test_all_parts_speak_of_the_same_folder(arguments, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    calls = []

    def command(arguments):
        calls.append(arguments)
        return 0

    monkeypatch.setattr(quickstart, "RUN", "run")
    monkeypatch.setattr(quickstart.cli, "main", command)
    assert quickstart.main([*arguments, "--trainer.max_steps=1"]) == 0
    assert calls[0][3:] == ["--run_dir", name, "--trainer.max_steps=1"]
    assert calls[1][1] == f"{name}/export"
    assert f"--logdir {name}" in capsys.readouterr().out
