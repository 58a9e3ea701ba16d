"""Null, and what stands inside of lists and mappings, reaches a setting however deep it lies, on the command line as in YAML."""

from __future__ import annotations

import inspect
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import Pretrained
from inbatch.models.encoder import Encoder
from inbatch.run.nested_options import keep_values
from inbatch.run.options import FitCLI

BACKBONE = "--model.encoder.init_args.backbone.init_args"
PRETRAINED = (
    "--model.encoder.init_args.backbone.class_path=Pretrained",
    f"{BACKBONE}.name=x",
)


def optional(owner: Any) -> list[str]:
    """The parameters of a class that may be null."""
    hints = get_type_hints(owner.__init__)
    return [
        name
        for name in inspect.signature(owner).parameters
        if get_origin(hints[name]) in (types.UnionType, Union) and type(None) in get_args(hints[name])
    ]


def parsed(*arguments: str) -> Any:
    return FitCLI(["--config", "tiny.yaml", *arguments]).config.model.encoder


@pytest.mark.usefixtures("run_folder")
@pytest.mark.parametrize("form", ["one word", "two words"])
def test_every_setting_of_a_backbone_that_may_be_null_takes_null(form: str):
    names = optional(Pretrained)
    assert {"quantize", "layers", "lora", "prefix", "dropout"} <= set(names)
    words = [[f"{BACKBONE}.{name}=null"] if form == "one word" else [f"{BACKBONE}.{name}", "null"] for name in names]
    given = parsed(*PRETRAINED, *(word for pair in words for word in pair)).init_args.backbone.init_args
    assert {name: given[name] for name in names} == dict.fromkeys(names)


@pytest.mark.usefixtures("run_folder")
def test_every_setting_of_the_encoder_that_may_be_null_takes_null():
    names = optional(Encoder)
    assert len(names) > 3
    given = parsed(*(f"--model.encoder.init_args.{name}=null" for name in names)).init_args
    assert {name: given[name] for name in names} == dict.fromkeys(names)


@pytest.mark.usefixtures("run_folder")
@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["quantize=nf4", "quantize=null"], "quantize", None),
        (["quantize=null", "quantize=nf4"], "quantize", "nf4"),
        (["layers=3", "layers=null", "dropout=0.3"], "layers", None),
        (["layers=null", "layers=3"], "layers", 3),
        (["lora.rank=2", "lora=null"], "lora", None),
    ],
)
def test_the_last_one_wins(options: list[str], name: str, value: Any):
    given = parsed(*PRETRAINED, *(f"{BACKBONE}.{option}" for option in options))
    assert given.init_args.backbone.init_args[name] == value
    assert given.init_args.backbone.init_args.name == "x"


@pytest.mark.usefixtures("run_folder")
def test_null_inside_of_a_mapping_is_no_text():
    given = parsed(*PRETRAINED, f"{BACKBONE}.lora={{rank: 2, targets: null}}").init_args.backbone.init_args.lora
    assert (given.rank, given.targets) == (2, None)


@pytest.mark.usefixtures("run_folder")
def test_a_line_break_inside_of_a_mapping_stays_one():
    given = parsed('--model.encoder.init_args.prompts={query: "a:\\n{text}", document: "it\'s {text}"}')
    assert given.init_args.prompts == {"query": "a:\n{text}", "document": "it's {text}"}


@pytest.mark.parametrize(
    "name",
    [
        "model.encoder.init_args.pooling",
        "model.encoder.init_args.normalize",
        "model.encoder.init_args.backbone.init_args.num_layers",
        "model.objective.init_args.temperature",
        "model.optimizer.init_args.lr",
    ],
)
@pytest.mark.parametrize("form", ["option", "YAML"])
def test_a_null_where_none_may_be_is_refused_by_name(run_folder: Path, name: str, form: str):
    nested: Any = None
    for key in reversed(name.split(".")):
        nested = {key: nested}
    (run_folder / "more.yaml").write_text(yaml.safe_dump(nested))
    with pytest.raises(UsageError, match=f"got null. Set --{name}, or leave it out."):
        parsed(f"--{name}=null" if form == "option" else "--config=more.yaml")


@pytest.mark.parametrize(
    "word",
    ["--a.init_args.b=3", "--a.init_args.b=x", "--a.init_args.b=[1, 2]", "--a.b=null", "--a.init_args.b+=null", "--a.init_args.b", "null", "--a.init_args.b={", "--a.init_args.b=2020-01-01"],
)  # fmt: skip
def test_what_the_parser_reads_rightly_is_left_alone(word: str):
    assert keep_values([word]) == [word]


def test_the_place_among_the_options_is_kept():
    words = keep_values(["--config=a.yaml", "--a.init_args.b=null", "--a.init_args.c", "[1, null]", "--d=1"])
    assert [words[0], words[3]] == ["--config=a.yaml", "--d=1"]
    assert [yaml.safe_load(word.removeprefix("--config=")) for word in words[1:3]] == [
        {"a": {"init_args": {"b": None}}},
        {"a": {"init_args": {"c": [1, None]}}},
    ]


def test_a_run_is_recorded_with_its_nulls(run_folder: Path):
    cli = FitCLI(["--config", "tiny.yaml", f"{BACKBONE}.dropout=0.1", f"{BACKBONE}.lora=null"])
    backbone = yaml.safe_load(cli.dump())["model"]["encoder"]["init_args"]["backbone"]["init_args"]
    assert (backbone["dropout"], backbone["lora"]) == (0.1, None)
    (run_folder / "again.yaml").write_text(cli.dump())
    assert FitCLI(["--config", "again.yaml"]).dump() == cli.dump()
