"""The picture of a benchmark is drawn, and matplotlib is asked for before the work."""

import pytest

from inbatch import cli
from inbatch.experiments import plots

SMALL = ["bench", "kernels", "--rows", "16", "--dim", "8", "--repetitions", "1", "--only-ours"]


def test_a_benchmark_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "times.png"
    assert cli.main([*SMALL, "--plot", str(path)]) == 0
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 10_000


def test_a_picture_of_another_kind_is_refused(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main([*SMALL, "--plot", str(tmp_path / "times.pdf")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_without_matplotlib_nothing_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert cli.main([*SMALL, "--plot", str(tmp_path / "times.png")]) == 3
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
