"""Every experiment file parses against the signatures, says what it claims, and runs two steps on a tiny backbone."""

from pathlib import Path

import pytest
from fit_helpers import lines_of
from tiny_rows import tiny_row

from inbatch import cli
from inbatch.config import command_for
from inbatch.fit import FitCLI

FOLDER = Path(__file__).parents[2] / "experiments"
SHARED = {"base.yaml", "shared.yaml"}
ROWS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml") if path.name not in SHARED)


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
    assert config.trainer.max_steps > 0 or config.trainer.max_epochs or "untrained" in row
    assert config.data.batch_size > 1


# Hyper-parameters of the releases: what a row is for. The optimizer's are those that PyTorch's defaults would get wrong.
PUBLISHED = {
    "simcse/unsup-bert-base.yaml": {
        "seed_everything": 42, "data.batch_size": 64, "data.max_length": 32, "data.ids": "position",
        "model.optimizer.init_args.lr": 3e-5, "trainer.max_steps": 15625, "trainer.gradient_clip_val": 1.0,
        "model.objective.init_args.hard_negative_weight": 0.0, "data.sources.view": "same",
    },
    "simcse/sup-bert-base.yaml": {
        "seed_everything": 42, "data.batch_size": 512, "data.max_length": 32, "data.ids": "position",
        "model.optimizer.init_args.lr": 5e-5, "trainer.max_steps": 1617, "trainer.gradient_clip_val": 4.0,
        "model.objective.init_args.projector": None, "model.encoder.init_args.head.class_path": "inbatch.models.heads.Dense",
    },
}  # fmt: skip
OF_ALL = {
    "model.optimizer.init_args.weight_decay": 0.0, "model.optimizer.init_args.betas": (0.9, 0.999),
    "model.schedule": "linear", "model.warmup_steps": 0, "model.objective.init_args.temperature": 0.05,
    "model.encoder.init_args.pooling": "cls", "model.encoder.init_args.normalize": False,
    "model.encoder.init_args.backbone.init_args.name": "bert-base-uncased", "monitor": "val/sts/STS-B-dev", "mode": "max",
    "evaluate_every": 125, "trainer.accumulate_grad_batches": 1,
}  # fmt: skip


@pytest.mark.parametrize("row", PUBLISHED)
def test_hyper_parameters_are_the_published_ones(row):
    config = FitCLI(options(row)).config
    expected = {**OF_ALL, **PUBLISHED[row]}
    found = {key: config.get(key) for key in expected}
    found["model.optimizer.init_args.betas"] = tuple(found["model.optimizer.init_args.betas"])
    assert found == expected


@pytest.mark.parametrize("row", ROWS)
def test_the_header_says_what_to_expect(row):
    header = [line for line in (FOLDER / row).read_text().splitlines() if line.startswith("#")]
    for word in ("Claim", "Cost", "Command", "Status"):
        assert any(line.startswith(f"# {word}") for line in header), f"{row} says no {word}"


def _mentioned(row, word):
    """The command in a row's header behind a word."""
    (line,) = [line for line in (FOLDER / row).read_text().splitlines() if line.startswith(f"# {word}")]
    return line.removeprefix(f"# {word}").strip()


@pytest.mark.parametrize("row", [row for row in ROWS if "# Before" in (FOLDER / row).read_text()])
def test_the_stage_before_is_the_one_whose_export_is_read(row):
    command = _mentioned(row, "Before")
    run = command.rpartition("--run_dir runs/")[2]
    assert command == command_for(run)
    assert f"name: runs/{run}/export" in (FOLDER / row).read_text()


@pytest.mark.parametrize("row", ROWS)
def test_runs_two_steps(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = tiny_row([FOLDER / name for name in configs(row)], tmp_path)
    assert cli.main(["fit", *options, "--run_dir", "run"]) == 0
    steps = [line for line in lines_of(Path("run/metrics.jsonl")) if "train/loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(0 < line["train/loss"] < 60 for line in steps)
