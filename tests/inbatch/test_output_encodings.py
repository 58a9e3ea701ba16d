"""Each verb writes to terminals and pipes of any encoding: what an encoding lacks is written as its number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fit_helpers import environment, write_run

from inbatch.models.backbones import TinyRandom
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
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"UnicodeEncodeError" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize("place", PLACES)
def test_fit(folder, place):
    options = [
        "--trainer.max_steps=1",
        f"--run_dir=run-{place}",
        "--data.sources.instruction=\u00e9 \u2192",
        "--trainer.enable_progress_bar=true",
    ]
    options[2] = "--model.schedule=linear"
    done = run(folder, place, "fit", "--config", "tiny.yaml", "--model.warmup_steps=0", *options)
    assert done.returncode == 0, done.stderr.decode()
    lacks = {"ascii": rb"na\xefve \u2192", "C": rb"na\xefve \u2192"}.get(
        place, "na\u00efve".encode("latin-1") + rb" \u2192"
    )
    assert lacks in done.stdout
    assert rb"\u2026 1" in done.stdout or "\u2026 1".encode("cp1252") in done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_search(folder, place):
    query = TEXT.encode() if place == "C" else TEXT
    done = run(folder, place, "search", "model", "texts.txt", "--query", query, "--no-cache", "--top", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(rb"\u65e5\u672c \U0001f600") == 2  # the query, and what was found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["encode", "model", "t\u00e9xts \u2192.txt", "--out", "x.npy"], 3, b"expected a file of texts"),
        (["evaluate", "retrieval", "model", "pairs.csv"], 0, b"model: mean pooling"),
        (["evaluate", "retrieval", "model", "n\u00f6 \u2192.csv"], 3, b"there is none"),
        (["evaluate", "sts", "model", "--data-dir", "\u2192"], 3, b"error"),
        (["doctor", "m\u00f6del \u2192"], 3, b""),
        (["\u2192"], 2, b"there is no verb"),
    ],
    ids=lambda value: (
        None if isinstance(value, (int, bytes)) else " ".join(value[:2]).encode("ascii", "replace").decode()
    ),
)
def test_the_other_verbs_and_their_errors(folder, place, arguments, code, says):
    done = run(folder, place, *map(os.fsencode, arguments))
    assert done.returncode == code, done.stderr.decode()
    assert says in done.stdout + done.stderr
