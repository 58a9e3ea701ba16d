"""Every experiment file parses against the signatures, says what it claims, and runs two steps on a tiny backbone."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from fit_helpers import lines_of
from tiny_rows import tiny_row

from inbatch import cli
from inbatch.config import command_for, options_for
from inbatch.models.training.data_checks import check_data
from inbatch.run.options import FitCLI

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


ANYWHERE = [row for row in ROWS if row == "quickstart.yaml" or row.startswith("own/") or "/cpu-" in row]


@pytest.mark.parametrize("row", ANYWHERE)
def test_what_is_to_run_anywhere_takes_the_precision_that_is_fast_there(row):
    own = ["--data.sources=pairs.csv"] if row.startswith("own/") else []
    assert FitCLI([*options(row), *own]).config.trainer.precision == "auto"


@pytest.mark.parametrize("row", sorted({*ROWS} - {*ANYWHERE}))
def test_what_reproduces_a_paper_names_its_precision(row):
    names = options_for(row).replace("--config ", "").split()
    said = [yaml.safe_load((FOLDER / name).read_text()) for name in names]
    named = [content["trainer"]["precision"] for content in said if "precision" in content.get("trainer", {})]
    assert named[-1] != "auto"


def test_the_quick_start_draws_no_dropout():
    assert FitCLI(options("quickstart.yaml")).config.model.encoder.init_args.backbone.init_args.dropout == 0.0


# Hyper-parameters of the releases: what a row is for. The optimizer's are those that PyTorch's defaults would get wrong.
OF_ALL = {
    "seed_everything": 42, "data.ids": "position", "model.schedule": "linear", "evaluate_every": 125, "mode": "max",
    "monitor": "val/sts/STS-B-dev", "model.optimizer.init_args.weight_decay": 0.0, "trainer.accumulate_grad_batches": 1,
    "model.optimizer.init_args.betas": (0.9, 0.999), "model.encoder.init_args.normalize": False, "temperature": 0.05,
}  # fmt: skip
LR, BATCH, STEPS, CLIP, LENGTH = (
    "model.optimizer.init_args.lr", "data.batch_size", "trainer.max_steps", "trainer.gradient_clip_val", "data.max_length",
)  # fmt: skip
NAME = "model.encoder.init_args.backbone.init_args.name"
PREFIX = "model.encoder.init_args.backbone.init_args.prefix"
HEAD, PROJECTOR = "model.encoder.init_args.head.class_path", "model.objective.init_args.projector.class_path"
DENSE = "inbatch.models.heads.dense.Dense"
RTD = "model.objective.init_args.terms.rtd.init_args.masking_rate"
WEIGHTS = "model.objective.init_args.weights"
ADAM, CUT_AT_DEV = "model.optimizer.class_path", "model.max_length_at_dev"
FROM_STAGE_1 = "inbatch.models.export.exported.ExportedDense"
UNSUP = {CLIP: 1.0, LENGTH: 32, PROJECTOR: DENSE, HEAD: None, "data.sources.view": "same"}
SUP = {LENGTH: 32, HEAD: DENSE, PROJECTOR: None, "data.sources.view": "auto"}
AT_DEV = {"model.training_tokens_at_dev": True}
DECAY = {"mlm": {"initial": 0.1, "factor": 0.95, "every": 100}}
PUBLISHED = {
    "simcse/unsup-bert-base": {**UNSUP, LR: 3e-5, BATCH: 64, STEPS: 15625, NAME: "bert-base-uncased"},
    "simcse/unsup-bert-large": {**UNSUP, LR: 1e-5, BATCH: 64, STEPS: 15625, NAME: "bert-large-uncased"},
    "simcse/unsup-roberta-base": {**UNSUP, LR: 1e-5, BATCH: 512, STEPS: 1954, NAME: "roberta-base"},
    "simcse/unsup-roberta-large": {**UNSUP, LR: 3e-5, BATCH: 512, STEPS: 1954, NAME: "roberta-large"},
    "simcse/unsup-bert-base-mlm": {**UNSUP, LR: 3e-5, BATCH: 64, STEPS: 15625, WEIGHTS: {"mlm": 0.1}},
    "simcse/sup-bert-base": {**SUP, LR: 5e-5, BATCH: 512, STEPS: 1617, CLIP: 4.0, NAME: "bert-base-uncased"},
    "simcse/sup-bert-large": {**SUP, LR: 1e-5, BATCH: 512, STEPS: 1617, CLIP: 4.0, NAME: "bert-large-uncased"},
    "simcse/sup-roberta-large": {**SUP, LR: 1e-5, BATCH: 512, STEPS: 1617, CLIP: 4.0, NAME: "roberta-large"},
    "diffcse/bert-base-sts": {LR: 7e-6, BATCH: 64, STEPS: 31250, RTD: 0.3, WEIGHTS: {"rtd": 0.005}, CLIP: 1.0},
    "diffcse/bert-base-trans": {LR: 2e-6, BATCH: 64, STEPS: 31250, RTD: 0.15, WEIGHTS: {"rtd": 0.05}, CLIP: 1.0},
    "diffcse/roberta-base-sts": {LR: 1e-5, BATCH: 64, STEPS: 31250, RTD: 0.2, WEIGHTS: {"rtd": 0.005}, CLIP: 1.0},
    "diffcse/roberta-base-trans": {LR: 3e-6, BATCH: 64, STEPS: 31250, RTD: 0.15, WEIGHTS: {"rtd": 0.05}, CLIP: 1.0},
    "promptbert/unsup-bert-base": {**UNSUP, **AT_DEV, LR: 1e-5, BATCH: 256, STEPS: 3907, "model.template_bias_at_dev": True},
    "promptbert/unsup-roberta-base": {**UNSUP, **AT_DEV, LR: 1e-5, BATCH: 256, STEPS: 3907, NAME: "roberta-base"},
    "promptbert/sup-bert-base": {**AT_DEV, LR: 5e-5, BATCH: 512, STEPS: 1617, HEAD: "inbatch.models.heads.dense.MLMTransform"},
    "promptbert/sup-roberta-base": {**SUP, **AT_DEV, LR: 5e-5, BATCH: 512, STEPS: 1617},
    "promcse/unsup-bert-base": {**UNSUP, LR: 3e-2, BATCH: 256, STEPS: 3907, PREFIX: 16},
    "promcse/unsup-bert-large": {**UNSUP, LR: 3e-2, BATCH: 256, STEPS: 3907, PREFIX: 10},
    "promcse/unsup-roberta-base": {**UNSUP, LR: 3e-2, BATCH: 64, STEPS: 15625, PREFIX: 14, WEIGHTS: DECAY},
    "promcse/unsup-roberta-large": {**UNSUP, LR: 1e-2, BATCH: 64, STEPS: 15625, PREFIX: 10, WEIGHTS: DECAY},
    "promcse/sup-bert-base": {**SUP, LR: 1e-2, BATCH: 256, STEPS: 10770, PREFIX: 12},
    "promcse/sup-bert-large": {**SUP, LR: 5e-3, BATCH: 256, STEPS: 10770, PREFIX: 12},
    "promcse/sup-roberta-base": {**SUP, LR: 1e-2, BATCH: 512, STEPS: 5390, PREFIX: 10},
    "promcse/sup-roberta-large": {**SUP, LR: 5e-3, BATCH: 512, STEPS: 5390, PREFIX: 10, CLIP: 2.0},
    "promcse/sup-roberta-large-eh": {**SUP, LR: 5e-3, BATCH: 512, STEPS: 5390, PREFIX: 10, CLIP: 2.0},
    "promcse/sup-bert-base-eh": {**SUP, LR: 1e-2, BATCH: 256, STEPS: 10770, PREFIX: 12, WEIGHTS: {"hinge": 10.0}},
    "gcse/stage1-bert-base": {LR: 2e-5, BATCH: 64, LENGTH: 32, "trainer.max_epochs": 3, CLIP: None, CUT_AT_DEV: 32},
    "gcse/bert-base": {
        LR: 1e-5, BATCH: 128, LENGTH: 64, "trainer.max_epochs": 2, CLIP: None, ADAM: "torch.optim.Adam",
        PROJECTOR: FROM_STAGE_1, "model.objective.init_args.sigma": 0.17, "model.objective.init_args.sigma_unit": "logits",
        "model.projector_at_dev": True, "model.schedule_steps": 80000, "model.warmup_steps": 190,
        "data.document_token_type": 1, CUT_AT_DEV: 64,
    },
}  # fmt: skip


def plain(value):
    """A namespace as a dictionary, a list as a tuple, a prefix as its length: what is compared."""
    value = value.as_dict() if hasattr(value, "as_dict") else value
    if isinstance(value, dict) and "length" in value:
        return value["length"]
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("row", PUBLISHED)
def test_hyper_parameters_are_the_published_ones(row):
    config = FitCLI(options(f"{row}.yaml")).config
    objective = config.model.objective.init_args
    contrast = objective if "terms" not in objective else objective.terms["contrast"].init_args
    found = {key: plain(config.get(key)) for key in {**OF_ALL, **PUBLISHED[row]}} | {
        "temperature": contrast.temperature
    }
    if WEIGHTS in PUBLISHED[row]:
        found[WEIGHTS] = {name: plain(weight) for name, weight in config.get(WEIGHTS).items()}
    assert found == {**OF_ALL, **PUBLISHED[row]}


RELEASES = ("simcse/", "diffcse/", "promcse/", "promptbert/")  # trained with transformers 4.2


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith(RELEASES)])
def test_the_optimizer_is_the_releases_where_a_release_is_reproduced(row):
    own = "cpu" in row or "untrained" in row
    expected = "torch.optim.AdamW" if own else "inbatch.models.training.adamw_uncorrected_eps.AdamWUncorrectedEps"
    assert FitCLI(options(row)).config.get(ADAM) == expected


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith((*RELEASES, "gcse/", "prompteol/"))])
def test_the_last_step_is_no_candidate_where_it_is_none_in_the_release(row):
    assert FitCLI(options(row)).config.evaluate_last is False


# Of language models: what the releases' scripts say.
CLIP_1 = {"trainer.gradient_clip_val": 1.0, "model.warmup_steps": 0.05, "seed_everything": 42}
LOG = {"model.warmup": "logarithmic"}
ALIGN = {"beta": 0.1, "temperature": 0.1, "reference_sign": "minus", "joint_negatives": True}
QLORA = {"rank": 64, "alpha": 16, "dropout": 0.05, "targets": None}
EOL = {"data.cut_first": True, "evaluate_every": 50, "monitor": "val/sts/STS-B-dev", "model.warmup_steps": 100}
LLM = {
    "autoregembed/stage1-llama2-7b": (
        {LR: 1e-5, BATCH: 32, "trainer.max_epochs": 1, **CLIP_1, **LOG}, {"learned_tokens": 5}, {"mean_by_rank": True},
    ),
    "autoregembed/stage2-llama2-7b": ({LR: 5e-6, BATCH: 128, "trainer.max_epochs": 4, **CLIP_1, **LOG}, {}, ALIGN),
    **{
        f"prompteol/opt-{size}": (
            {**EOL, CLIP: clip, LR: 5e-4, BATCH: 256, LENGTH: 32, "trainer.max_epochs": 1},
            {"quantize": "nf4", "merge_into": "unquantized", "eos": "none", "lora": QLORA},
            {"temperature": 0.05},
        )
        for size, clip in (("125m", 2.0), ("350m", 2.0), ("1.3b", 2.0), ("2.7b", 2.0), ("6.7b", 4.0))
    },
    "prompteol/untrained-opt-2.7b-in-context": (
        {STEPS: 0, "trainer.precision": "32-true", "evaluate_every": None, "monitor": None},
        {"quantize": None, "dtype": "float32", "eos": "none"},
        {},
    ),
    "small-llm/minicpm-2b": (
        {LR: 5e-5, LENGTH: 150, "model.schedule": "cosine", "model.warmup_steps": 100, "model.warmup": "linear"},
        {"eos": "append", "lora": {"rank": 8, "alpha": 32, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}},
        {"temperature": 0.05},
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", LLM)
def test_hyper_parameters_of_language_models_are_the_released_ones(row):
    run, backbone, objective = LLM[row]
    config = FitCLI(options(f"{row}.yaml")).config
    assert {key: plain(config.get(key)) for key in run} == run
    given = config.model.encoder.init_args.backbone.init_args.as_dict()
    assert {key: given[key] for key in backbone} == backbone
    assert {key: config.model.objective.init_args[key] for key in objective} == objective


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


COLUMNS = re.compile(r"(\S+) has the columns ([\w, ]+\w)")
WITH_FILE = [row for row in ROWS if COLUMNS.search((FOLDER / row).read_text())]


def test_the_header_says_which_columns_a_file_of_its_command_has():
    commands = {row for row in ROWS if "=" in _mentioned(row, "Command").partition("--data.")[2]}
    assert commands
    assert commands <= set(WITH_FILE)


@pytest.mark.parametrize("row", WITH_FILE)
def test_the_command_reads_the_file_that_the_header_describes(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (FOLDER / row).read_text()
    name, columns = COLUMNS.search(text).groups()
    rows = [{column: f"{column} {number}" for column in columns.split(", ")} for number in range(8)]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    Path(name).write_text("\n".join(map(json.dumps, rows) if name.endswith(".jsonl") else lines))
    source = yaml.safe_load(text)["data"].get("sources", "none.csv")
    Path("source.yaml").write_text(yaml.safe_dump({"data": {"sources": source}}))
    given = [word for word in shlex.split(_mentioned(row, "Command")) if word.startswith("--data.")]
    assert name in str(given or source)
    tiny = tiny_row([FOLDER / name for name in configs(row)], tmp_path)
    cli = FitCLI([*tiny, "--data.sources=none.csv", "--config", "source.yaml", *given, "--data.max_length=100"])
    cli.build()
    check_data(cli.model.encoder, cli.model.objective, cli.datamodule, 1, "32-true")
    (table,) = cli.datamodule.tables
    assert (len(table), sorted(table.roles.used)) == (8, sorted(columns.split(", ")))


@pytest.mark.parametrize("row", ROWS)
def test_runs_two_steps(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = tiny_row([FOLDER / name for name in configs(row)], tmp_path)
    if "DistributionAlignment" in (FOLDER / row).read_text():
        assert cli.main(["synthesize", "reference-scores", *options]) == 0
    assert cli.main(["fit", *options, "--run_dir", "run"]) == 0
    steps = [line for line in lines_of(Path("run/metrics.jsonl")) if "train/loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(0 < line["train/loss"] < 60 for line in steps)
