"""Each verb writes to terminals and pipes of any encoding: what an encoding lacks is written as its number."""

import io
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from fit_helpers import environment, write_run

from inbatch import cli
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

PROGRAM = str(Path(sys.executable).with_name("inbatch"))
# A terminal that is set to an encoding, and a locale without one.
PLACES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
TEXT = "na\u00efve \u2192 \u65e5\u672c \U0001f600"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encodings")
    write_run(folder)
    rows = "".join(f"{TEXT} {i},\u2026 {i}\n" for i in range(20))
    (folder / "pairs.csv").write_text("anchor,positive\n" + rows, encoding="utf8")
    (folder / "texts.txt").write_text(f"{TEXT}\nplain\n", encoding="utf8")
    Encoder(TinyRandom("bert", num_layers=1)).eval().save_pretrained(folder / "model")
    return folder


def run(folder, place, *arguments, stdin=b""):
    given = {
        name: value for name, value in environment().items() if name not in ("PYTHONIOENCODING", "LC_ALL", "PYTHONUTF8")
    }
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=folder, env={**given, **PLACES[place]}, capture_output=True, input=stdin
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode("latin-1")
    assert b"UnicodeEncodeError" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape", "replace"])
def test_what_an_encoding_lacks_is_written_as_its_number(encoding, errors, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    verb = types.SimpleNamespace(configure=lambda parser: None, run=lambda args: print(f"{TEXT} \ud800"))
    monkeypatch.setitem(sys.modules, "shows_text", verb)
    monkeypatch.setitem(cli.VERBS, "show", ("shows_text", "for a test"))
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["show"]) == 0
    stream.flush()
    shown = f"{TEXT} \ud800\n".encode(encoding, errors if errors == "replace" else "backslashreplace")
    assert stream.buffer.getvalue() == shown


# Each verb once, in one of the places: a process of its own takes seconds.


def test_fit(folder):
    options = ["--trainer.max_steps=1", "--model.schedule=constant", "--model.warmup_steps=0", "--run_dir=run"]
    done = run(folder, "ascii", "fit", "--config", "tiny.yaml", *options, "--trainer.enable_progress_bar=true")
    assert done.returncode == 0, done.stderr.decode()
    assert rb"1. anchor: na\xefve \u2192 \u65e5\u672c \U0001f600" in done.stdout
    done = run(folder, "C", "fit", "--config", "tiny.yaml", *options)  # reads what the first has written
    assert done.returncode == 0, done.stderr.decode()
    assert b"finished before" in done.stdout


def test_search(folder):
    done = run(folder, "C", "search", "model", "texts.txt", "--query", TEXT.encode(), "--no-cache", "--top", "1")
    assert done.returncode == 0, done.stderr.decode()
    # The query, whose bytes the locale could not decode, and the text that is found.
    assert done.stdout.count(rb"na\xefve \u2192 \u65e5\u672c \U0001f600") == 2


@pytest.mark.parametrize(
    ("place", "arguments", "code", "says"),
    [
        (
            "latin-1",
            ["encode", "model", "t\u00e9xts \u2192.txt", "--out", "x.npy"],
            3,
            "t\u00e9xts \\u2192.txt".encode("latin-1"),
        ),
        ("cp1252", ["evaluate", "retrieval", "model", "pairs.csv"], 0, b"model: mean pooling"),
        ("ascii", ["evaluate", "sts", "model", "--data-dir", "\u2192"], 3, rb"\u2192"),
        ("C", ["doctor", "m\u00f6del \u2192"], 3, b"del"),
        ("ascii", ["synthesize", "\u2192"], 2, rb"\u2192"),
        ("cp1252", ["bench", "\u2192"], 2, rb"\u2192"),
        ("C", ["\u2192"], 2, b"there is no verb"),
    ],
)
def test_the_other_verbs_and_their_errors(folder, place, arguments, code, says):
    done = run(folder, place, *map(os.fsencode, arguments))
    assert done.returncode == code, done.stderr.decode("latin-1")
    assert says in done.stdout + done.stderr
