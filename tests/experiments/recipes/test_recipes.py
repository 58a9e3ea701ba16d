"""Every recipe parses against the signatures, says what it claims, and runs two steps on a tiny backbone."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from fit_helpers import lines_of
from tiny_recipes import tiny_recipe

from inbatch import cli
from inbatch.class_names import short
from inbatch.models.training.data_checks import check_data
from inbatch.recipe_list import listed
from inbatch.recipes import chain, command, command_for, names, packaged, read, recipe_of, run_name
from inbatch.run.options import FitCLI

RECIPES = dict(listed())


def options(name):
    """What its command gives, files of one's own included."""
    return ["--config", str(packaged() / name), *recipe_of(packaged() / name).options]


def test_every_file_is_a_recipe_or_what_recipes_share():
    shared = {name for name in names() if Path(name).name in ("base.yaml", "shared.yaml")}
    assert set(names()) == shared | RECIPES.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_parses(recipe):
    config = FitCLI(options(recipe)).config
    assert config.trainer.max_steps > 0 or config.trainer.max_epochs or "untrained" in recipe
    assert config.data.batch_size > 1


ANYWHERE = [name for name in RECIPES if name == "quickstart.yaml" or name.startswith("own/") or "/cpu-" in name]


@pytest.mark.parametrize("recipe", ANYWHERE)
def test_what_is_to_run_anywhere_takes_the_precision_that_is_fast_there(recipe):
    assert FitCLI(options(recipe)).config.trainer.precision == "auto"


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {*ANYWHERE}))
def test_what_reproduces_a_paper_names_its_precision(recipe):
    said = [read(path) for path in chain(packaged() / recipe)]
    named = [content["trainer"]["precision"] for content in said if "precision" in content.get("trainer", {})]
    assert named[-1] != "auto"


def test_the_quick_start_draws_no_dropout():
    assert FitCLI(options("quickstart.yaml")).config.model.encoder.init_args.backbone.init_args.dropout == 0.0


# Hyper-parameters of the releases: what a recipe is for. The optimizer's are those that PyTorch's defaults would get wrong.
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
DENSE = "Dense"
RTD = "model.objective.init_args.terms.rtd.init_args.masking_rate"
WEIGHTS = "model.objective.init_args.weights"
ADAM, CUT_AT_DEV = "model.optimizer.class_path", "model.max_length_at_dev"
FROM_STAGE_1 = "ExportedDense"
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
    "promptbert/sup-bert-base": {**AT_DEV, LR: 5e-5, BATCH: 512, STEPS: 1617, HEAD: "MLMTransform"},
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
    if isinstance(value, str):
        return short(value)
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_hyper_parameters_are_the_published_ones(recipe):
    config = FitCLI(options(f"{recipe}.yaml")).config
    objective = config.model.objective.init_args
    contrast = objective if "terms" not in objective else objective.terms["contrast"].init_args
    found = {key: plain(config.get(key)) for key in {**OF_ALL, **PUBLISHED[recipe]}} | {
        "temperature": contrast.temperature
    }
    if WEIGHTS in PUBLISHED[recipe]:
        found[WEIGHTS] = {name: plain(weight) for name, weight in config.get(WEIGHTS).items()}
    assert found == {**OF_ALL, **PUBLISHED[recipe]}


RELEASES = ("simcse/", "diffcse/", "promcse/", "promptbert/")  # trained with transformers 4.2


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name.startswith(RELEASES)])
def test_the_optimizer_is_the_releases_where_a_release_is_reproduced(recipe):
    own = "cpu" in recipe or "untrained" in recipe
    expected = "torch.optim.AdamW" if own else "AdamWUncorrectedEps"
    assert plain(FitCLI(options(recipe)).config.get(ADAM)) == expected


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name.startswith((*RELEASES, "gcse/", "prompteol/"))])
def test_the_last_step_is_no_candidate_where_it_is_none_in_the_release(recipe):
    assert FitCLI(options(recipe)).config.evaluate_last is False


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


@pytest.mark.parametrize("recipe", LLM)
def test_hyper_parameters_of_language_models_are_the_released_ones(recipe):
    run, backbone, objective = LLM[recipe]
    config = FitCLI(options(f"{recipe}.yaml")).config
    assert {key: plain(config.get(key)) for key in run} == run
    given = config.model.encoder.init_args.backbone.init_args.as_dict()
    assert {key: given[key] for key in backbone} == backbone
    assert {key: config.model.objective.init_args[key] for key in objective} == objective


def test_what_is_claimed_has_the_names_that_evaluations_have():
    sets = {"STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R", "avg"}
    claimed = [(name, recipe.claims) for name, recipe in RECIPES.items() if recipe.claims]
    assert len(claimed) > 40
    for name, claims in claimed:
        assert {tag.partition("/")[2] for tag in claims if tag.startswith("sts/")} <= sets, name
        whole = [claims[f"sts/{each}"] for each in sets - {"avg"} if f"sts/{each}" in claims]
        if len(whole) == 7 and abs(sum(whole) / 7 - claims["sts/avg"]) > 0.011:
            assert "seven scores average to" in RECIPES[name].notes


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.stage_after])
def test_the_stage_before_is_the_one_whose_export_is_read(recipe):
    run = run_name(RECIPES[recipe].stage_after)
    assert f"name: runs/{run}/export" in (packaged() / recipe).read_text()
    words = command_for(run).split()
    given = words[words.index("--run_dir") + 1] if "--run_dir" in words else None
    assert (given or read(packaged() / RECIPES[recipe].stage_after)["run_dir"]) == f"runs/{run}"


WITH_FILES = [name for name, recipe in RECIPES.items() if recipe.files]


def test_files_of_options_are_described():
    given = {name for name, recipe in RECIPES.items() if any(o.startswith("--data.") for o in recipe.options)}
    assert given
    assert given <= set(WITH_FILES)


@pytest.mark.parametrize("recipe", WITH_FILES)
def test_the_command_reads_the_files_that_the_recipe_describes(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, columns in RECIPES[recipe].files.items():
        rows = [{column: f"{column} {number}" for column in columns} for number in range(8)]
        if "negatives" in columns:  # a column of lists
            rows = [{**row, "negatives": [f"{row['negatives']} {n}" for n in range(8)]} for row in rows]
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        plain_text = [row["text"] for row in rows if name.endswith(".txt")]
        Path(name).write_text("\n".join(plain_text or (map(json.dumps, rows) if name.endswith(".jsonl") else lines)))
    content = [read(path) for path in chain(packaged() / recipe)]
    source = next((c["data"]["sources"] for c in reversed(content) if "sources" in c.get("data", {})), "none.csv")
    Path("source.yaml").write_text(yaml.safe_dump({"data": {"sources": source}}))
    words = shlex.split(command(recipe))
    given = [word for word in words if word.startswith("--data.")]
    assert all(name in str(given or source) for name in RECIPES[recipe].files)
    tiny = tiny_recipe(packaged() / recipe, tmp_path)
    cli = FitCLI([*tiny, "--data.sources=none.csv", "--config", "source.yaml", *given, "--data.max_length=100"])
    cli.build()
    check_data(cli.model.encoder, cli.model.objective, cli.datamodule, 1, "32-true")
    (table,) = cli.datamodule.tables
    (columns,) = RECIPES[recipe].files.values()
    assert (len(table), sorted(table.roles.used)) == (8, sorted(columns))


@pytest.mark.parametrize("recipe", RECIPES)
def test_runs_two_steps(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = tiny_recipe(packaged() / recipe, tmp_path)
    if RECIPES[recipe].prepare:
        assert cli.main(["synthesize", "reference-scores", *options]) == 0
    assert cli.main(["fit", *options, "--run_dir", "run"]) == 0
    steps = [line for line in lines_of(Path("run/metrics.jsonl")) if "train/loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    # A random network embeds all texts alike: a sigmoid for each of 15 negatives is then 15 logits of 10.
    assert all(0 < line["train/loss"] < 160 for line in steps)
