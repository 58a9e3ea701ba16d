"""`inbatch doctor` through the command line: three questions, two forms of answer, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inbatch import cli
from inbatch.experiments.budget import Rates
from inbatch.experiments.doctor import command as doctor
from inbatch.experiments.doctor.findings import Finding


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["doctor", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_installation(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path))
    # Which precision is the faster is stubbed in tests: MiniLM would be timed in one that may be slow here.
    monkeypatch.setattr("inbatch.experiments.quickstart.measure", lambda encoder, precision: Rates(1000.0, 4000.0))
    code, out, _ = run(capsys)
    assert code == 0
    assert out.startswith("inbatch 0.")
    for topic in ("python", "packages", "imports", "cpu", "bfloat16", "info_nce", "caching"):
        assert f"\nok      {topic} " in out or f"\nnote    {topic} " in out
    assert out.endswith("All is well.\n")


def test_without_torch_the_rest_is_not_tried(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    absent = Finding("torch", "missing", "not installed", "pip install torch")
    monkeypatch.setattr("inbatch.experiments.doctor.installation.check_installation", lambda: iter([absent]))
    monkeypatch.setattr("inbatch.experiments.doctor.machine.check_machine", lambda: 1 / 0)
    code, out, _ = run(capsys)
    assert code == 3
    assert "-> pip install torch" in out
    assert out.endswith("To mend: torch.\n")


def test_json_and_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = [Finding("kind", "ok", "base"), Finding("reload", "wrong", "differs")]
    monkeypatch.setattr("inbatch.experiments.doctor.inspection.inspect_model", lambda name: iter(found))
    file = tmp_path / "answer.json"
    code, out, err = run(capsys, "some-model", "--json", "--out", str(file))
    assert code == 1
    assert err == ""
    assert json.loads(out) == json.loads(file.read_text())
    answer = json.loads(out)
    assert answer["exit_code"] == 1
    assert answer["verdict"] == "To mend: reload."
    assert answer["findings"][1] == {"topic": "reload", "state": "wrong", "text": "differs", "remedy": ""}


def test_plan_gets_every_option_of_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    def plan(arguments: list[str], memory: float | None):
        seen.extend(arguments)
        assert memory == 80
        return {"bytes": {"total": 5}}, [Finding("total", "ok", "5 bytes")]

    monkeypatch.setattr("inbatch.experiments.doctor.planning.plan_run", plan)
    code, out, _ = run(
        capsys, "--config", "a.yaml", "--json", "--config=b.yaml", "--memory=80", "--trainer.max_steps", "3"
    )
    assert code == 0
    assert seen == ["--config", "a.yaml", "--config=b.yaml", "--trainer.max_steps", "3"]
    assert json.loads(out)["bytes"] == {"total": 5}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--jsn"], 2, "Did you mean --json?"),
        (["--memory", "80"], 2, "Give the run, too"),
        (["--config", "a.yaml", "--memory", "much"], 2, "argument --memory: invalid float value"),
        (["a", "b"], 2, "no argument 'b'"),
        (["own/pairs.yaml"], 2, "is a configuration. Did you mean --config own/pairs.yaml --data.sources=pairs.csv?"),
        (["own/"], 2, "own/ is a configuration. Did you mean --config own/?"),
        (["./not/there"], 3, "there is no such folder"),
        (["--config", "not-there.yaml"], 3, "there is no configuration file not-there.yaml"),
        (["minilm", "--out", "x.txt"], 2, "ends in .json"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str):
    found, out, err = run(capsys, *arguments)
    assert found == code
    assert words in err
    assert out == ""


def test_help_teaches(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert doctor.EPILOG in out
