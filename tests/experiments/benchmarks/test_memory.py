from __future__ import annotations

import json
from pathlib import Path

import pytest

from inbatch.cli import main
from inbatch.experiments.benchmarks.memory import draw, measure


def test_the_blocks_stay_within_their_workspace_where_the_matrix_does_not(tmp_path: Path):
    result = measure(512, 2048, 32, 2**30)
    assert [size["rows"] for size in result["sizes"]] == [512, 1024, 2048]
    autograd = [size["bytes"]["autograd cross_entropy"] for size in result["sizes"]]
    ours = [size["bytes"]["inbatch float32"] for size in result["sizes"]]
    # Logits and their softmax at least; four times as much for twice the rows.
    assert all(peak >= 2 * 4 * size["rows"] ** 2 for peak, size in zip(autograd, result["sizes"]))
    assert autograd[-1] / autograd[0] == pytest.approx(16, rel=0.2)
    assert ours[-1] < autograd[-1]
    for name in ("a.svg", "a.png"):
        draw(result, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    draw(result, tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text() == (tmp_path / "a.svg").read_text()


def test_autograd_is_left_out_where_it_does_not_fit():
    (size,) = measure(256, 256, 8, 1.0)["sizes"]
    assert "autograd cross_entropy" not in size["bytes"]
    assert "inbatch float32" in size["bytes"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    words = ["bench", "memory", "--from-rows=128", "--rows=256", "--dim=8", "--out=a.json", "--plot=a.svg"]
    assert main(words) == 0
    assert "autograd" in capsys.readouterr().out
    assert json.loads(Path("a.json").read_text())["dim"] == 8
    assert Path("a.svg").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows=0"], "expected 1 < --from-rows <= --rows and --dim > 0; got 1024, 0 and 384."),
        (["--plot=a.pdf"], "expected --plot to end in .svg or .png; got a.pdf."),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "memory", *words]) == 2
    assert said in capsys.readouterr().err
