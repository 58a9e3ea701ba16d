"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import known_rates
import pytest
from fit_helpers import write_run

from inbatch.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test go by what the processor under it reaches."""
    known_rates.stub(monkeypatch)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny run's configuration and data, which is the working folder of the test."""
    write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``inbatch`` in this process."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def fit(run_folder: Path, command: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Run ``inbatch fit`` on the tiny run, with further options, in this process."""
    return lambda *arguments: command("fit", "--config", "tiny.yaml", *arguments)
