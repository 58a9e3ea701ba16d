"""A plan says what the run would be, without training it."""

from __future__ import annotations

import json
from pathlib import Path

import known_rates
import pytest
import yaml

from inbatch.errors import MissingError, UsageError
from inbatch.experiments.doctor import planning
from inbatch.experiments.doctor.findings import Finding, exit_code
from inbatch.experiments.doctor.memory import Line, Rehearsed
from inbatch.experiments.doctor.planning import plan_run
from inbatch.experiments.doctor.rehearsal import Held, Scene
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.text.templates import parse

REHEARSE = planning.rehearse  # the fixture below stands in for it
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run with a tiny encoder on 40 pairs."""
    rows = [f"{WORDS[i % 8]} {i}\t{WORDS[i % 7]} is number {i}" for i in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["anchor\tpositive", *rows]) + "\n")
    run = {
        "trainer": {"max_steps": 2, "accelerator": "cpu"},
        "model": {
            "encoder": {
                "class_path": "inbatch.models.encoder.Encoder",
                "init_args": {"backbone": {"class_path": "inbatch.models.backbones.pretrained.TinyRandom"}},
            },
            "objective": {"class_path": "inbatch.losses.contrastive.infonce.InfoNCE"},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            "chunk_tokens": 512,
        },
        "data": {"sources": str(tmp_path / "pairs.tsv"), "batch_size": 32, "max_length": 24},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path


@pytest.fixture(autouse=True)
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> Rehearsed:
    """What a rehearsal would have said; test_rehearsal.py has the real ones."""
    line = Line(fixed=2e6, token=1e6, text=500.0, update=1e6)
    said = Rehearsed(line, factor=2.0, program=500 << 20, start=500 << 20, tokens=512)
    monkeypatch.setattr(planning, "rehearse", lambda *_: said)
    return said


def plan(config: Path, *options: str, memory: float | None = None) -> tuple[dict, dict[str, Finding]]:
    facts, findings = plan_run(["--config", str(config), *options], memory)
    return facts, {finding.topic: finding for finding in findings}


def test_single_source_batches_are_planned_by_the_widest_table(config: Path, tmp_path: Path):
    (tmp_path / "triples.csv").write_text(
        "anchor,positive,negative\n" + "".join(f"a {i},b {i},c {i}\n" for i in range(40))
    )
    sources = f"--data.sources=[{tmp_path / 'pairs.tsv'}, {tmp_path / 'triples.csv'}]"
    facts, _ = plan(config, sources, "--data.single_source=true")
    assert facts["shape"]["views"] == 3


@pytest.mark.parametrize(("chunk", "count"), [("128", 4), ("null", 3)])
def test_each_rehearsal_is_said_before_it_begins(
    config: Path, chunk: str, count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    said: list[str] = []

    def step(scene: Scene) -> int:
        said.append(capsys.readouterr().err)
        return scene.rows * (scene.chunk_tokens or 24)

    monkeypatch.setattr(planning, "rehearse", REHEARSE)
    monkeypatch.setattr(planning, "held", lambda cli, texts, scene: Held(step(scene), scene.rows, step(scene), 1))
    monkeypatch.setattr(planning, "heap", lambda arguments, scene: (1 << 20, step(scene), 1 << 28))
    plan(config, f"--model.chunk_tokens={chunk}")
    lines = "".join(said).splitlines()
    assert [line.split(":")[0] for line in lines] == [f"rehearsal {i} of {count}" for i in range(1, count + 1)]
    assert said[-1] == f"{lines[-1]}\n"
    assert all(line.endswith("at once" if chunk == "null" else "tokens") for line in lines)


def test_instructions_count(config: Path, tmp_path: Path):
    words = "find what it says " * 4
    source = {"path": str(tmp_path / "pairs.tsv"), "instruction": words}
    backbone = "--model.encoder.init_args.backbone.init_args.kind=bert"  # a byte is a token
    prompts = "--model.encoder.init_args.prompts={query: '{instruction}: {text}'}"
    facts, _ = plan(config, backbone, prompts, f"--data.sources={json.dumps([source])}")
    assert facts["shape"]["longest"] > len(words) + 24
    assert facts["shape"]["tokens"] > 32 * (len(words) + 2 * 24)


def test_plan_of_a_tiny_run(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    facts, found = plan(config)
    assert exit_code(list(found.values())) == 0
    shape = facts["shape"]
    assert (shape["rows"], shape["views"], shape["dim"], shape["longest"], shape["tokens"]) == (32, 2, 32, 24, 32 * 48)
    assert 8 < shape["mean_length"] < 24
    assert found["negatives"].text.startswith("31 an anchor")
    assert "40 rows" in found["data"].text
    assert "chunks of 512 tokens" in found["activations"].text
    need = facts["bytes"]
    assert need["optimizer"] == 2 * need["gradients"]
    assert need["total"] == sum(value for name, value in need.items() if name not in ("total", "available"))
    # The process before the first step, and twice what the line says of 512 tokens and 64 texts.
    assert need["total"] == (500 << 20) + 2 * (2_000_000 + 512 * 1_000_000 + 64 * 500)
    assert facts["rehearsal"]["line"]["token"] == 1e6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.tsv", "run.yaml"], "a plan leaves nothing behind"


def test_options_change_the_plan(config: Path):
    facts, found = plan(
        config, "--model.chunk_tokens=null", "--data.batch_size=16", "--trainer.accumulate_grad_batches=2"
    )
    assert (
        "the whole batch at once, at most 768 tokens; rehearsed with 512, 2.0 times what the tensors hold"
        in found["activations"].text
    )
    assert facts["shape"]["batch"] == 16
    assert found["accumulation"].state == "note"
    small, _ = plan(config, "--model.chunk_tokens=48", "--data.batch_size=16")
    assert small["bytes"]["activations"] < facts["bytes"]["activations"]


def test_what_runs_beside_the_encoder_is_named(config: Path):
    rtd = '{"class_path": "inbatch.losses.generative.replaced_tokens.ReplacedTokens", "init_args": {"generator": {"class_path": "inbatch.models.networks.masked_lm.TinyGenerator"}, "discriminator": {"class_path": "inbatch.models.networks.discriminator.Discriminator", "init_args": {"backbone": {"class_path": "inbatch.models.backbones.pretrained.TinyRandom"}}}}}'
    _, found = plan(config, f"--model.objective={rtd}")
    assert found["objective"].state == "note"
    assert found["objective"].text.endswith("is rehearsed with it: generator and discriminator")
    assert "objective" not in plan(config)[1]


def test_a_template_takes_tokens_beyond_max_length(config: Path):
    prompts = '--model.encoder.init_args.prompts={query: "x {text} y", document: "{text}"}'
    facts, _ = plan(config, prompts)
    template = len(parse(TinyRandom().tokenizer, "x {text} y"))  # the document's is two special tokens
    assert facts["shape"]["longest"] == 24 + template
    assert facts["shape"]["tokens"] == 32 * (24 + template + 24 + 2)


def test_adapters_need_little_for_gradients_and_optimizer(config: Path):
    whole, _ = plan(config)
    lora, _ = plan(config, "--model.encoder.init_args.backbone.init_args.lora.rank=2")
    assert lora["bytes"]["optimizer"] < whole["bytes"]["optimizer"] / 4
    half, _ = plan(config, "--trainer.precision=bf16-true")
    assert half["bytes"]["weights"] == whole["bytes"]["weights"] // 2


@pytest.mark.parametrize("faster", known_rates.KNOWN)
def test_auto_is_planned_as_it_will_run_here(faster: str, config: Path, monkeypatch: pytest.MonkeyPatch):
    known_rates.stub(monkeypatch, faster)
    facts, found = plan(config, "--trainer.precision=auto")
    assert facts["precision"] == known_rates.PRECISION[faster]
    assert f"precision {known_rates.PRECISION[faster]} (auto: products here reach" in found["device"].text


def test_ranks_share_the_batch_and_the_machine(config: Path):
    one, _ = plan(config)
    two, found = plan(config, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert (two["shape"]["rows"], two["shape"]["batch"], two["shape"]["ranks"]) == (16, 32, 2)
    assert two["bytes"]["gradients"] == 2 * one["bytes"]["gradients"]
    assert two["bytes"]["available"] < 0.7 * one["bytes"]["available"]
    assert found["negatives"].text.startswith("31 an anchor")


def test_the_chunk_that_would_fit_is_always_said(config: Path, rehearsed: Rehearsed):
    assert plan(config)[1]["chunk"].text == "the whole batch of up to 1,536 tokens would fit at once (now 512)"
    fixed = rehearsed.program + 2 * (2_000_000 + 64 * 500)
    # Half a tenth stays free, and the rest holds 1,100 tokens of twice 1 MB.
    gib = (fixed + 2 * 1100 * 1_000_000) / 0.95 / 2**30
    _, found = plan(config, memory=gib)
    assert (found["chunk"].state, found["total"].state) == ("ok", "ok")
    assert found["chunk"].text == "up to 1,024 tokens a chunk would fit (now 512)"
    assert "as given" in found["memory"].text
    _, found = plan(config, "--model.chunk_tokens=null", memory=gib)
    assert found["total"].state == "wrong"
    assert found["total"].remedy == "--model.chunk_tokens=1024"
    assert found["chunk"].text.endswith("(now the whole batch)")
    assert plan(config, found["total"].remedy, memory=gib)[1]["total"].state == "ok"


def test_what_no_chunk_makes_fit(config: Path):
    _, found = plan(config, memory=0.5)
    assert (found["chunk"].state, found["total"].state) == ("wrong", "wrong")
    assert found["chunk"].text == "not even a text of 24 tokens would fit"
    assert "adapters" in found["total"].remedy


def test_what_cannot_be_rehearsed_here_is_counted(config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "available_bytes", lambda *_: 1000)
    facts, found = plan(config, memory=80)
    assert facts["bytes"]["activations"] == 0
    assert found["total"].state == "note"
    assert "at least, without activations" in found["total"].text
    assert plan(config)[1]["total"].state == "wrong"


@pytest.mark.parametrize("memory", [0.0, -1.0, float("nan"), float("inf")])
def test_nonsense_memory_is_refused(config: Path, memory: float):
    with pytest.raises(UsageError, match="--memory as GiB, a positive number"):
        plan(config, memory=memory)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.max_step=3", "max_steps"),
        ("--data.batch_size=4000", "batch_size 4000 is larger than the 40 rows"),
        (
            "--model.objective.class_path=EnergyHinge",
            "expects a hard negative in every row",
        ),
        ("--data.max_length=600", "Set --data.max_length"),
    ],
)
def test_wrong_options_and_data_are_told_as_fit_would(config: Path, option: str, words: str):
    with pytest.raises(UsageError, match=words):
        plan(config, option)


def test_missing_config_and_model(config: Path):
    with pytest.raises(MissingError, match="no configuration file"):
        plan_run(["--config", "nothing.yaml"])
    backbone = "--model.encoder.init_args.backbone"
    with pytest.raises(MissingError, match="there is no such folder"):
        plan(
            config, f"{backbone}=inbatch.models.backbones.pretrained.Pretrained", f"{backbone}.init_args.name=./nothing"
        )
