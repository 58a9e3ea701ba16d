"""Every experiment file parses against the signatures, says what it claims, and runs two steps on a tiny backbone."""

from pathlib import Path

import pytest
from fit_helpers import lines_of

from inbatch import cli
from inbatch.fit import FitCLI

FOLDER = Path(__file__).parents[2] / "experiments"
SHARED = {"base.yaml", "shared.yaml"}
ROWS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml") if path.name not in SHARED)

TINY = """
trainer: {accelerator: cpu, devices: 1, precision: 32-true, max_steps: 2, log_every_n_steps: 1, enable_progress_bar: false}
model:
  warmup_steps: 0
  encoder:
    class_path: inbatch.models.encoder.Encoder
    init_args:
      backbone: {class_path: inbatch.models.backbones.TinyRandom, init_args: {hidden_size: 768, num_layers: 1, num_heads: 12}}
data: {sources: triples.csv, batch_size: 8, max_length: 16}
evaluators: {}
evaluate_every: null
evaluate_first: false
monitor: null
"""


def configs(row):
    """The files of a row, in the order of its command: the base, what its folder shares, itself."""
    shared = FOLDER / row.split("/")[0] / "shared.yaml"
    return ["base.yaml", *([str(shared.relative_to(FOLDER))] if shared.is_file() else []), row]


def options(row):
    return [part for name in configs(row) for part in ("--config", str(FOLDER / name))]


@pytest.mark.parametrize("row", ROWS)
def test_parses(row):
    arguments = options(row)
    if row.startswith("own/"):
        arguments.append("--data.sources=pairs.csv")
    config = FitCLI(arguments).config
    assert config.trainer.max_steps > 0
    assert config.data.batch_size > 1


@pytest.mark.parametrize("row", ROWS)
def test_the_header_says_what_to_expect(row):
    header = [line for line in (FOLDER / row).read_text().splitlines() if line.startswith("#")]
    for word in ("Claim", "Cost", "Command", "Status"):
        assert any(line.startswith(f"# {word}") for line in header), f"{row} says no {word}"


@pytest.mark.parametrize("row", ROWS)
def test_runs_two_steps(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"this is text {i},that says {i * i},nothing about {i + 1}" for i in range(24)]
    Path("triples.csv").write_text("anchor,positive,negative\n" + "\n".join(lines) + "\n")
    Path("tiny.yaml").write_text(TINY)
    assert cli.main(["fit", *options(row), "--config", "tiny.yaml", "--run_dir", "run"]) == 0
    steps = [line for line in lines_of(Path("run/metrics.jsonl")) if "train/loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(0 < line["train/loss"] < 20 for line in steps)
