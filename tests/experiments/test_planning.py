"""A plan says what the run would be, without training it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml

from inbatch.errors import MissingError, UsageError
from inbatch.experiments import planning
from inbatch.experiments.findings import Finding, exit_code
from inbatch.experiments.planning import plan_run
from inbatch.models.backbones import TinyRandom
from inbatch.templates import parse

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
                "init_args": {"backbone": {"class_path": "inbatch.models.backbones.TinyRandom"}},
            },
            "objective": {"class_path": "inbatch.losses.infonce.InfoNCE"},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            "chunk_tokens": 512,
        },
        "data": {"sources": str(tmp_path / "pairs.tsv"), "batch_size": 32, "max_length": 24},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path


def plan(config: Path, *options: str) -> tuple[dict, dict[str, Finding]]:
    facts, findings = plan_run(["--config", str(config), *options])
    return facts, {finding.topic: finding for finding in findings}


def test_single_source_batches_are_planned_by_the_widest_table(config: Path, tmp_path: Path):
    (tmp_path / "triples.csv").write_text(
        "anchor,positive,negative\n" + "".join(f"a {i},b {i},c {i}\n" for i in range(40))
    )
    sources = f"--data.sources=[{tmp_path / 'pairs.tsv'}, {tmp_path / 'triples.csv'}]"
    facts, _ = plan(config, sources, "--data.single_source=true")
    assert facts["shape"]["views"] == 3


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
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.tsv", "run.yaml"], "a plan leaves nothing behind"


def test_options_change_the_plan(config: Path):
    facts, found = plan(
        config, "--model.chunk_tokens=null", "--data.batch_size=16", "--trainer.accumulate_grad_batches=2"
    )
    assert found["activations"].text.endswith("the whole batch at once, at most 768 tokens")
    assert facts["shape"]["batch"] == 16
    assert found["accumulation"].state == "note"
    small, _ = plan(config, "--model.chunk_tokens=48", "--data.batch_size=16")
    assert small["bytes"]["activations"] < facts["bytes"]["activations"]


def test_what_runs_beside_the_encoder_is_named(config: Path):
    rtd = '{"class_path": "inbatch.losses.replaced_tokens.ReplacedTokens", "init_args": {"generator": {"class_path": "inbatch.models.masked_lm.TinyGenerator"}, "discriminator": {"class_path": "inbatch.models.discriminator.Discriminator", "init_args": {"backbone": {"class_path": "inbatch.models.backbones.TinyRandom"}}}}}'
    _, found = plan(config, f"--model.objective={rtd}")
    assert found["objective"].state == "note"
    assert found["objective"].text.endswith("is not counted: generator and discriminator")
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


def test_ranks_share_the_batch_and_the_machine(config: Path):
    one, _ = plan(config)
    two, found = plan(config, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert (two["shape"]["rows"], two["shape"]["batch"], two["shape"]["ranks"]) == (16, 32, 2)
    assert two["bytes"]["gradients"] == 2 * one["bytes"]["gradients"]
    assert two["bytes"]["available"] < 0.7 * one["bytes"]["available"]
    assert found["negatives"].text.startswith("31 an anchor")


def test_what_does_not_fit_is_wrong_and_says_which_chunk_would(config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=0)
    )  # a process that weighs nothing
    need = plan(config)[0]["bytes"]
    rest = need["total"] - need["activations"]
    monkeypatch.setattr(planning, "available_bytes", lambda *_: round((rest + need["activations"] * 600 / 512) / 0.95))
    _, found = plan(config, "--model.chunk_tokens=1536")
    assert found["total"].state == "wrong"
    assert found["total"].remedy == "--model.chunk_tokens=512"
    _, found = plan(config, found["total"].remedy)
    assert found["total"].state == "ok"
    monkeypatch.setattr(planning, "available_bytes", lambda *_: rest // 2)
    _, found = plan(config)
    assert "adapters" in found["total"].remedy


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.max_step=3", "max_steps"),
        ("--data.batch_size=4000", "batch_size 4000 is larger than the 40 rows"),
        ("--model.objective.class_path=inbatch.losses.hinge.EnergyHinge", "expects a hard negative in every row"),
        ("--data.max_length=600", "Set data.max_length"),
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
        plan(config, f"{backbone}=inbatch.models.backbones.Pretrained", f"{backbone}.init_args.name=./nothing")


def test_slack_by_device():
    assert planning.slack(torch.device("cpu")) > planning.slack(torch.device("cuda")) > 1
