from __future__ import annotations

import errno
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from inbatch import cli
from inbatch.errors import MissingError, TrainingError, UsageError

PROGRAM = str(Path(sys.executable).with_name("inbatch"))


def fake_verb(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    module = types.ModuleType("fake_verb")
    module.configure = lambda parser: parser.add_argument("--name")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_verb", module)
    monkeypatch.setitem(cli.VERBS, "fake", ("fake_verb", "for a test"))


def raiser(error: BaseException) -> Any:
    def run(args: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in cli.VERBS)


def test_help_is_there_at_once():
    start = time.perf_counter()
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
    assert "usage: inbatch" in done.stdout
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evalute"], "there is no verb 'evalute'. Did you mean evaluate?"),
        (["train"], "there is no verb 'train'. Did you mean fit?"),
        (["trian"], "Did you mean fit?"),
        (["emebd"], "Did you mean encode?"),
        (["zzz"], "there is no verb 'zzz' (`inbatch --help` lists them)"),
        (["--verson"], "Did you mean --version?"),
        (["fake", "--nmae=x"], "inbatch fake takes no option --nmae. Did you mean --name?"),
        (["fake", "--na=x"], "takes no option --na"),
    ],
)
def test_a_wrong_name_exits_with_2_and_the_near_one(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    fake_verb(monkeypatch, lambda args: None)
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("inbatch: error: ")
    assert sentence in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("one"), 2),
        (MissingError("one"), 3),
        (TrainingError("one"), 4),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), 1),
    ],
)
def test_errors_become_one_sentence_and_their_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    fake_verb(monkeypatch, raiser(error))
    assert cli.main(["fake"]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    fake_verb(monkeypatch, raiser(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])
    fake_verb(monkeypatch, raiser(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O"):
        cli.main(["fake"])


def test_a_verb_gets_its_arguments_and_its_code_is_returned(monkeypatch: pytest.MonkeyPatch):
    fake_verb(monkeypatch, lambda args: int(args.name))
    assert cli.main(["fake", "--name", "7"]) == 7
    fake_verb(monkeypatch, lambda args: None)
    assert cli.main(["fake"]) == 0


def test_a_reader_that_goes_away_gets_no_traceback():
    program = """
import sys, types
from inbatch import cli

def run(args):
    while True:
        print("a line")

sys.modules["chatty"] = types.SimpleNamespace(configure=lambda parser: None, run=run)
cli.VERBS["chatty"] = ("chatty", "for a test")
sys.exit(cli.main(["chatty"]))
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.readline()
        writer.stdout.close()  # as `head` does
        assert writer.wait(20) == 1
        assert writer.stderr.read() == ""


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--config", "base.yaml"], ["encode", "x"], []])
def test_windows_is_refused_by_name(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("inbatch: error: inbatch runs on Linux and macOS; this is Windows")
    assert said.count("\n") == 1


def test_the_command_starts_without_what_windows_lacks():
    code = "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None; sys.platform = 'win32'\n"
    code += "from inbatch.cli import main; sys.exit(main(['fit']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Install it in WSL" in done.stderr
