"""An error names the option that can be typed in the run, and typed with a sensible value it mends the error."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import write_run
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from inbatch.class_names import classes, dotted
from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.sources import Source
from inbatch.errors import InbatchError, MissingError, UsageError
from inbatch.models.module import EmbeddingModule
from inbatch.run.config import locate_configs
from inbatch.run.options import FitCLI, RunOptions
from inbatch.run.parser_errors import resolve
from inbatch.run.registry import objectives
from inbatch.run.remedies import said_as_typed, typed

ROOT = Path(__file__).parents[3]
ENCODER, OBJECTIVE = "--model.encoder.init_args", "--model.objective.init_args"
BACKBONE = f"{ENCODER}.backbone.init_args"


def part(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": f"package.{name}", "init_args": settings}


NCE, HOT = part("InfoNCE", temperature=0.05, projector=None), part("InfoNCE", temperature=0, projector=None)
RUN = {
    "seed_everything": 0,
    "evaluators": {},
    "evaluate_every": None,
    "trainer": {"max_steps": 3},
    "model": {
        "encoder": part("Encoder", backbone=part("TinyRandom", lora={"rank": 8}, prefix=None), head=None),
        "objective": part("WeightedSum", terms={"a": NCE, "b": HOT, "c": part("CoSENT", scale=1.0)}, weights=None),
        "optimizer": part("AdamW", lr=0.1),
    },
    "data": {"sources": "a b.csv", "batch_size": 4, "repetition": {"rate": 0.5}},
}
TERMS = f"{OBJECTIVE}.terms"
SAID = [
    # Owners: at the top, inside, one of several.
    ("got 1. Raise data.batch_size, or less.", "got 1. Raise --data.batch_size, or less."),
    ("Set trainer.max_steps (or trainer.max_time).", "Set --trainer.max_steps (or trainer.max_time)."),
    ("Set data.repetition.rate.", "Set --data.repetition.rate."),
    ("Set lora.rank.", f"Set {BACKBONE}.lora.rank."),
    ("Set backbone.prefix.", f"Set {BACKBONE}.prefix."),
    ("Set model.optimizer.init_args.lr.", "Set --model.optimizer.init_args.lr."),
    ("Set model.encoder.init_args.head.", f"Set {ENCODER}.head."),
    ("Set objective.weights.", f"Set {OBJECTIVE}.weights."),
    ("Set objective.scale.", f"Set {TERMS}.c.init_args.scale."),
    ("expected more. Set objective.temperature.", f"expected more. Set {TERMS}.a.init_args.temperature."),
    ("got 0.0. Set objective.temperature, e.g. 0.05.", f"got 0.0. Set {TERMS}.b.init_args.temperature, e.g. 0.05."),
    # Values.
    ("Set encoder.head to null, or another.", f"Set {ENCODER}.head=null, or another."),
    ("Set backbone.prefix to a new one.", f"Set {BACKBONE}.prefix to a new one."),
    ("Set encoder.head to a.b.Dense.", f"Set {ENCODER}.head=a.b.Dense."),
    ("Set encoder.head to {a: 1}.", f"Set '{ENCODER}.head={{a: 1}}'."),
    # At the top.
    ("Set seed_everything.", "Set --seed_everything."),
    ("Set evaluators, or set evaluate_every to null.", "Set --evaluators, or set --evaluate_every=null."),
    ("Set data.", "Set data."),
    # What stays: descriptions, what leads nowhere, what is typed already.
    ("data.batch_size is small. Set data.batch_size.", "data.batch_size is small. Set --data.batch_size."),
    ("trainer.max_steps is small.", "trainer.max_steps is small."),
    ("Set prefix.length, or encoder.nothing.", "Set prefix.length, or encoder.nothing."),
    ("Set trainer.callbacks.0.init_args.a.", "Set trainer.callbacks.0.init_args.a."),
    ("Set --data.batch_size=3.", "Set --data.batch_size=3."),
    # The source.
    ("Set view: pair on the source.", "Set --data.sources.path='a b.csv' --data.sources.view=pair."),
    ("Set split and subset of the source.",
     "Set --data.sources.path='a b.csv' --data.sources.split and --data.sources.subset."),
    ("Set encoding of its source.", "Set --data.sources.path='a b.csv' --data.sources.encoding."),
    ("Set columns.positive.", "Set --data.sources.path='a b.csv' --data.sources.columns.positive."),
    ("Set the weight of the source.", "Set the weight of the source."),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), SAID)
def test_settings_become_options(message: str, expected: str):
    assert typed(message, RUN) == expected
    assert typed(expected, RUN) == expected
    assert typed(message, namespaces(RUN)) == expected


def namespaces(node: Any) -> Any:
    """Settings as the parser leaves them: terms by name stay a mapping."""
    if not isinstance(node, dict):
        return node
    inside = {key: namespaces(value) for key, value in node.items()}
    return inside if "a" in inside else Namespace(**inside)


def test_the_class_that_a_message_names_is_the_one_that_is_meant():
    run = {
        "model": {"objective": part("WeightedSum", terms={"a": part("First", scale=1), "b": part("Other", scale=1)})}
    }
    assert (
        typed("Other expects more. Set objective.scale.", run) == f"Other expects more. Set {TERMS}.b.init_args.scale."
    )


def test_settings_of_several_sources_have_no_option():
    run = {"data": {"sources": ["a.csv", "b.csv"]}}
    assert typed("Set view: pair on the source.", run) == "Set view: pair on the source."
    assert typed("Set data.sources.", run) == "Set --data.sources."


def test_a_file_of_an_evaluator_is_not_the_source():
    run = {"data": {"sources": "a.csv"}, "evaluators": {"dev": part("Retrieval", source="dev.csv")}}
    assert typed("dev.csv: wrong. Set encoding of the source.", run) == "dev.csv: wrong. Set encoding of the source."


def test_an_error_keeps_its_class_and_names_the_command_as_well():
    with pytest.raises(MissingError) as caught, said_as_typed(RUN, ["--config", "a.yaml"]):
        raise MissingError("nothing. Set data.batch_size, or: inbatch fit --config …")
    assert str(caught.value) == "nothing. Set --data.batch_size, or: inbatch fit --config a.yaml"


SCORED = "--data.sources=scored.csv"
TRIPLETS = "--data.sources=triplets.csv"
LLAMA = f"{BACKBONE}.kind=llama"
SLOTS = "{query: '{text}{learned}', document: '{text}{learned}'}"
LEARNED = [LLAMA, f"{BACKBONE}.learned_tokens=2", f"{ENCODER}.pooling=learned", f"{ENCODER}.prompts={SLOTS}"]
ALIGN = [*LEARNED, TRIPLETS]


def objective(name: str, settings: str = "") -> str:
    return f"--model.objective={{class_path: {name}, init_args: {{{settings}}}}}"


def align(settings: str = "") -> str:
    return objective(
        "DistributionAlignment", f"decoder: {{class_path: TinyDecoder}}, reference: none.safetensors{settings}"
    )


# What is wrong, and a value for each option that the sentence names, in its order; None leaves one out.
TABLE: list[tuple[list[str], list[str | None]]] = [
    # The trainer, and what stands at the top.
    (["--trainer.max_steps=-1"], ["3", None]),
    (["--trainer.gradient_clip_algorithm=value"], ["1.0"]),
    (["--trainer.accumulate_grad_batches=0"], ["1"]),
    (["--trainer.max_time=soon"], ["00:01:00:00"]),
    (["--seed_everything=-1"], ["1"]),
    # The model.
    (["--model.warmup_steps=-1"], ["1"]),
    (["--model.chunk_tokens=0"], ["64"]),
    (["--model.projector_at_dev=true"], ["false", None]),
    (["--model.projector_at_dev=true"], [None, "{class_path: torch.nn.Linear, init_args: {in_features: 32, out_features: 32}}"]),
    (["--model.template_bias_at_dev=true", f"{ENCODER}.pooling=mask", f"{ENCODER}.prompts={{query: '{{text}} {{mask}}', document: '{{text}} {{mask}}'}}"],
     ["TemplateBias"]),
    (["--model.max_length_at_dev=1"], ["8"]),
    (["--model.encoder.init_args.normalize=null"], ["true"]),
    # The encoder.
    ([f"{ENCODER}.pooling=learned"], ["2"]),
    ([LLAMA, f"{ENCODER}.pooling=last", f"{BACKBONE}.bidirectional=1"], ["mean", None]),
    ([LLAMA, f"{ENCODER}.pooling=last", f"{BACKBONE}.bidirectional=1", f"{BACKBONE}.num_layers=2"], [None, "2"]),
    ([f"{ENCODER}.pooling=cls", f"{ENCODER}.latent={{class_path: LatentAttention, init_args: {{hidden_size: 16, latents: 2}}}}"], ["null"]),
    ([f"{ENCODER}.latent={{class_path: LatentAttention, init_args: {{hidden_size: 32, latents: 2, heads: 5}}}}"], ["null"]),
    ([f"{ENCODER}.pooling=avg_top2", f"{ENCODER}.latent={{class_path: LatentAttention, init_args: {{hidden_size: 32, latents: 2}}}}"],
     [None, "null"]),
    ([f"{ENCODER}.correction=TemplateBias"], ["mask", "{query: '{text} {mask}', document: '{text} {mask}'}"]),
    ([f"{ENCODER}.pooling=mask", f"{ENCODER}.correction=TemplateBias", f"{ENCODER}.correction.init_args.after_head=true",
      f"{ENCODER}.prompts={{query: '{{text}} {{mask}}', document: '{{text}} {{mask}}'}}"], [None, "false"]),
    ([f"{ENCODER}.pooling=mask", f"{ENCODER}.correction=TemplateBias",
      f"{ENCODER}.prompts={{query: '{{text}} {{text}} {{mask}}', document: '{{text}} {{mask}}'}}"], [None, "null"]),
    ([f"{ENCODER}.ensembles={{all: [nothing]}}"], ["{all: [query, document]}"]),
    ([f"{ENCODER}.prompts={{query: '{{txt}}'}}"], ["{query: '{text}'}"]),
    ([f"{ENCODER}.prompts={{query: '{{mask}}'}}"], ["{query: '{text}'}"]),
    ([f"{ENCODER}.prompts={{query: '{{text}} {{learned}}'}}"], ["1"]),
    ([f"{ENCODER}.pooling=mask", f"{ENCODER}.prompts={{query: '{{text}}', document: '{{text}}'}}"],
     ["{query: '{text} {mask}', document: '{text} {mask}'}"]),
    ([*LEARNED, f"{ENCODER}.prompts={{query: '{{text}}', document: '{{text}}'}}"], [SLOTS]),
    ([f"{ENCODER}.prompts={{query: '{{instruction}}{{text}}', document: '{{text}}'}}"], ["pairs.csv", "Find", None, None]),
    # The backbone.
    ([f"{BACKBONE}.eos=append", f"{BACKBONE}.kind=bert"], ["as_is"]),
    ([LLAMA, f"{BACKBONE}.bidirectional=3"], ["1"]),
    ([f"{BACKBONE}.learned_tokens=-1"], ["1"]),
    ([f"{BACKBONE}.lora.rank=0"], ["2"]),
    ([f"{BACKBONE}.lora.targets=[nothing]"], ["[query, value]"]),
    ([f"{BACKBONE}.prefix.length=0"], ["2"]),
    ([f"{BACKBONE}.prefix.length=2000"], ["2"]),
    ([f"{BACKBONE}.prefix.length=2", f"{BACKBONE}.prefix.dropout=2"], ["0.1"]),
    ([f"{BACKBONE}.prefix.length=2", f"{BACKBONE}.prefix.projection=0"], ["4"]),
    ([f"{BACKBONE}.attention=flash"], ["auto"]),
    # The data.
    (["--data.batch_size=41"], ["8"]),
    (["--data.max_length=600"], ["16"]),
    (["--data.max_length=0"], ["16"]),
    (["--data.temperature=0"], ["1"]),
    (["--data.repetition.rate=1.5"], ["0.2"]),
    (["--data.repetition.rate=0.2", "--data.repetition.most=0"], ["1"]),
    (["--data.repetition.rate=0.2", "--data.repetition.roles=[]"], ["[anchor]"]),
    (["--data.sources=[pairs.csv, triplets.csv]"], ["true"]),
    ([SCORED], ["scored.csv", "pair", "{anchor: anchor, positive: positive}"]),
    (["--data.sources={path: scored.csv, delimiter: comma}"], ["pair", "{anchor: anchor, positive: positive}"]),
    # Objectives.
    ([f"{OBJECTIVE}.temperature=0"], ["0.05"]),
    ([f"{OBJECTIVE}.projector={{class_path: torch.nn.Linear, init_args: {{in_features: 8, out_features: 8}}}}"], ["32"]),
    ([objective("EnergyHinge")], ["triplets.csv"]),
    ([objective("OwnNegatives", "temperature: 0"), TRIPLETS], ["0.1"]),
    ([objective("MomentumQueue", "queue_size: 0")], ["8", None]),
    ([objective("Guided", "guide: {class_path: TinyHead}, temperature: 0")], ["0.01"]),
    ([objective("SigLIP", "bias: .nan")], ["-10"]),
    ([objective("GaussianDecay", "reference: {class_path: TinyHead}, sigma: 0"), TRIPLETS], ["0.2"]),
    ([objective("DCLR", "reference: {class_path: TinyHead}, noise_temperature: 0")], ["0.2"]),
    ([objective("GaussianDecay", "reference: {class_path: TinyHead, init_args: {kind: roberta}}"), TRIPLETS], ["{class_path: TinyHead, init_args: {kind: bert}}"]),
    ([objective("CoSENT", "scale: 0"), SCORED], ["20"]),
    ([objective("CoSENT")], ["scored.csv"]),
    ([objective("Matryoshka", "objective: {class_path: InfoNCE}, dims: [0, 8]")], ["[8, 32]", None]),
    ([objective("Matryoshka", "objective: {class_path: InfoNCE}, dims: [8, 64]")], ["[8, 32]"]),
    ([objective("Matryoshka", "dims: [8], objective: {class_path: InfoNCE, init_args: {temperature: 0}}")], ["0.05"]),
    ([objective("Matryoshka", "dims: [8], objective: {class_path: InfoNCE, init_args: {projector: {class_path: torch.nn.Identity}}}")], ["null"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}}, weights: {b: 1}")], ["{a: 1}"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}}, weights: {a: 0}")], [None, "{a: 1}"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}, b: {class_path: InfoNCE, init_args: {temperature: 0}}}")], ["0.05"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}, mlm: {class_path: MaskedTokens, init_args: {head: {class_path: TinyHead}, masking_rate: 2}}}")],
     ["0.15"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}, mlm: {class_path: MaskedTokens, init_args: {head: {class_path: TinyHead}, same_prefix_dropout: true}}}")],
     ["false", None]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}, mlm: {class_path: MaskedTokens, init_args: {head: {class_path: TinyHead, init_args: {kind: roberta}}}}}")],
     ["{class_path: TinyHead, init_args: {kind: bert}}"]),
    ([objective("WeightedSum", "terms: {a: {class_path: InfoNCE}, lm: {class_path: NextTokens}}"), f"{BACKBONE}.kind=gpt2", f"{BACKBONE}.bidirectional=true"],
     ["false"]),
    ([objective("InformationCompression", "decoder: {class_path: TinyDecoder}"), *LEARNED, f"{ENCODER}.pooling=mean"], [None, "learned"]),
    ([objective("InformationCompression", "decoder: {class_path: TinyDecoder, init_args: {max_length: 16}}"), *LEARNED], ["8"]),
    ([objective("InformationCompression", "decoder: {class_path: TinyDecoder, init_args: {hidden_size: 64}}"), *LEARNED], ["{class_path: TinyDecoder, init_args: {hidden_size: 32}}"]),
    ([align(", beta: 0"), *ALIGN], ["0.1"]),
    ([align(), *ALIGN, "--data.ids=position"], ["text"]),
    ([align(), *ALIGN, "--data.repetition.rate=0.2"], ["null", "null"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, and data of other roles beside it."""
    path = tmp_path_factory.mktemp("runs")
    write_run(path)
    rows = [f"{i} plus {i},it is {i + i}" for i in range(40)]
    triplets, scored = (
        (f"{row},not {i}\n" for i, row in enumerate(rows)),
        (f"{row},{i}\n" for i, row in enumerate(rows)),
    )
    (path / "triplets.csv").write_text("anchor,positive,negative\n" + "".join(triplets))
    (path / "scored.csv").write_text("anchor,positive,score\n" + "".join(scored))
    return path


def refusal(arguments: list[str]) -> str:
    """Parse, build and check a run as `inbatch fit` does; return what it refuses, or nothing."""
    try:
        cli = FitCLI(locate_configs(["--config", "tiny.yaml", *arguments])[0])
        with said_as_typed(cli.config, arguments):
            cli.build()
            assert cli.datamodule.order.steps_per_epoch > 0
            cli.model.check(cli.datamodule, 1, "32-true")
    except UsageError as error:
        return str(error)
    except MissingError as error:
        return "" if "reference-scores" in str(error) else str(error)  # what comes after the settings
    return ""


def named(message: str) -> list[str]:
    """The options in a message; the dot of a sentence is no part of one."""
    return [option.rstrip(".") for option in re.findall(r"--[\w.]+", message)]


@pytest.mark.parametrize(("wrong", "values"), TABLE, ids=lambda value: str(value)[:60])
def test_the_option_that_an_error_names_mends_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], values: list[str | None]
):
    monkeypatch.chdir(folder)
    message = refusal(wrong)
    options = named(message)
    assert len(options) == len(values), message
    assert (
        refusal([*wrong, *(f"{option}={value}" for option, value in zip(options, values) if value is not None)]) == ""
    )


class Ready(InbatchError):
    """All that a run checks before its first step has passed."""

    exit_code = 0


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        (["--trainer.max_steps=-1"], "3"),
        (["--trainer.max_steps=-1", "--trainer.max_time=00:01:00:00"], "3"),
        (["--model.warmup_steps=13"], "1"),
        (["--model.optimizer.init_args.lr=-1"], "{lr: 0.01}"),
        (["--data.max_length=600"], "16"),
        ([f"{BACKBONE}.frozen=true", f"{OBJECTIVE}.learn_temperature=false"], "false"),
        ([f"{OBJECTIVE}.temperature=0"], "0.05"),
        (["--evaluate_every=2"], "{a: {class_path: fit_parts.Similarity}}"),
    ],
)
def test_the_command_prints_the_option(
    fit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, wrong: list[str], value: str
):
    def ready(trainer: Trainer) -> None:
        raise Ready("ready")

    monkeypatch.setattr(Trainer, "_run_stage", ready)
    refused = fit(*wrong)
    assert refused.code == 2
    mended = fit(*wrong, f"{named(refused.err)[0]}={value}")
    assert mended.code == 0, mended.err


@pytest.mark.parametrize("verb", [("doctor",), ("synthesize", "reference-scores")])
def test_other_commands_of_a_run_print_it_too(run_folder: Path, command: Callable[..., Any], verb: tuple[str, ...]):
    refused = command(*verb, "--config", "tiny.yaml", f"{OBJECTIVE}.temperature=0")
    assert refused.code == 2
    assert named(refused.err) == [f"{OBJECTIVE}.temperature"]


def whole(owner: Any, depth: int = 4) -> dict[str, Any]:
    """Every setting of a class, and of the classes of this package that its parameters take."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(owner).parameters.items():
        kinds = [
            kind
            for kind in re.findall(r"[A-Z]\w+", str(parameter.annotation))
            if kind in classes() and not hasattr(typing, kind)
        ]
        kinds = [
            *{"backbone": ["Pretrained"], "head": ["MLMTransform"], "projector": ["MLMTransform"]}.get(name, kinds)
        ]
        kind = resolve(dotted(kinds[0])) if kinds and depth else None
        found[name] = None if kind is None else {"class_path": kind.__name__, "init_args": whole(kind, depth - 1)}
    return found


def whole_run() -> dict[str, Any]:
    """A configuration in which everything is set, with every objective as a term."""
    run = {**whole(RunOptions), "trainer": whole(Trainer, 0), "model": whole(EmbeddingModule)}
    run["data"] = {**whole(EmbeddingDataModule), "sources": whole(Source)}
    terms = {name: {"class_path": name, "init_args": whole(kind)} for name, kind in objectives().items()}
    run["model"]["objective"] = {
        "class_path": "WeightedSum",
        "init_args": {**terms["WeightedSum"]["init_args"], "terms": terms},
    }
    run["model"]["optimizer"] = part("AdamW", lr=None)
    return run


def literals() -> Iterator[tuple[str, str]]:
    """Every text of the sources of losses, models and data, with its place, but docstrings; what is computed in it is left out."""
    for folder in ("losses", "models", "data"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text("utf8"))))
            described = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr):
                    yield place, "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
                    yield place, node.value


ASKED = re.compile(r"\b(?:[Ss]et|[Rr]aise|[Ll]ower)(?: a \w+)? (?:[a-z_]+\.)+[a-z_]+")


def test_every_setting_that_the_library_asks_for_can_be_typed():
    run, asking, left = whole_run(), 0, []
    for place, text in literals():
        if ASKED.search(text):
            asking += 1
            left += [(place, found) for found in ASKED.findall(typed(text, run))]
    assert left == []
    assert asking > 60
