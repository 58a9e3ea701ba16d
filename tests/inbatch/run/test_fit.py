from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fit_helpers import complete, equal, lines_of, state
from fit_parts import Similarity

from inbatch.models.encoder import Encoder

EVALUATED = ("--evaluators.pair.class_path=fit_parts.Similarity", "--evaluate_every=4", "--evaluate_first=true")


def tensorboard(run: Path) -> dict[str, list[int]]:
    """The steps of every tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_run_leaves_all_that_it_promises(fit: Callable[..., Any], run_folder: Path):
    outcome = fit("--run_dir=run", *EVALUATED)
    assert outcome.code == 0, outcome.err
    run = run_folder / "run"
    lines = lines_of(run / "metrics.jsonl")
    train = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in train] == list(range(1, 13))
    assert {"train/lr", "train/grad_norm", "train/temperature", "train/negatives_per_anchor"} <= train[0].keys()
    assert {"train/samples_seen", "perf/sentences_per_s", "perf/peak_mem_gib"} <= train[0].keys()
    # Two batches of 16 rows and one of 8 make an epoch.
    assert [line["train/samples_seen"] for line in train[:4]] == [16, 32, 40, 56]
    assert [line["train/negatives_per_anchor"] for line in train[:4]] == [15, 15, 7, 15]
    assert train[-1]["train/loss"] < train[0]["train/loss"]
    assert [line["step"] for line in lines if "val/pair/cosine" in line] == [0, 4, 8, 12]
    assert tensorboard(run)["train/loss"] == list(range(1, 13))

    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["exported_step"]) == (12, 12)
    encoder = Encoder.from_pretrained(run / "export")
    z = encoder.encode(["1 plus 1?", "2 it is"])
    assert result["metrics"]["test/pair/cosine"] == pytest.approx(float(z[0] @ z[1]), abs=1e-6)
    assert result["train"]["train/loss"] == train[-1]["train/loss"]
    card = (run / "export" / "README.md").read_text()
    assert "pairs.csv" in card
    assert "InfoNCE" in card
    assert train[-1]["train/negatives_per_anchor"] == 7
    assert "| negatives | 15 |" in card  # of a full batch

    start = json.loads((run / "run.json").read_text())["starts"][0]
    assert start["command"].startswith("inbatch fit --config tiny.yaml --run_dir=run")
    assert (start["seed"], start["ranks"]) == (0, 1)
    assert start["packages"]["torch"] == torch.__version__
    assert (run / "config.yaml").exists()


@pytest.mark.parametrize(
    ("options", "evaluated", "exported"),
    [
        (("--evaluate_last=false",), [5, 10], {5, 10}),
        (("--evaluate_last=true",), [5, 10, 12], {5, 10, 12}),
        # By epochs of three steps.
        (("--evaluate_last=false", "--trainer.max_steps=-1", "--trainer.max_epochs=4"), [5, 10], {5, 10}),
        # Nothing is measured, and something must be exported.
        (("--evaluate_last=false", "--evaluate_every=50"), [], {12}),
    ],
)
def test_the_last_step_is_a_candidate_only_where_it_is_evaluated(
    fit: Callable[..., Any], run_folder: Path, options: tuple[str, ...], evaluated: list[int], exported: set[int]
):
    monitor = (*EVALUATED[:1], "--evaluate_every=5", "--monitor=val/pair/cosine", "--mode=max")
    outcome = fit("--run_dir=run", *monitor, *options)
    assert outcome.code == 0, outcome.err
    lines = lines_of(run_folder / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "val/pair/cosine" in line] == evaluated
    result = json.loads((run_folder / "run" / "result.json").read_text())
    assert result["steps"] == 12
    assert result["exported_step"] in exported
    assert Path(result["export"], "model.safetensors").is_file()


def test_the_first_screen_says_what_will_be_done(fit: Callable[..., Any]):
    out = fit("--run_dir=run", "--trainer.max_steps=2", "--model.warmup_steps=0").out
    for words in (
        "run folder  run",
        "cpu (1 threads), 1 rank, precision 32-true",
        "attention",
        "info_nce    chunked (",
        "trainable of",
        "16 rows over all ranks",
        "15 an anchor",
        "chunks of 128 tokens",
        "pairs.csv: 40 rows",
        "3. positive:",
    ):
        assert words in out


def test_given_again_a_finished_run_prints_its_result(fit: Callable[..., Any], run_folder: Path):
    first = fit("--run_dir=run", *EVALUATED)
    before = (run_folder / "run" / "metrics.jsonl").read_text()
    again = fit("--run_dir=run", *EVALUATED)
    assert (first.code, again.code) == (0, 0)
    assert "finished before: 12 steps" in again.out
    assert "--fresh=true trains anew" in again.out
    assert "test/pair/cosine" in again.out
    assert (run_folder / "run" / "metrics.jsonl").read_text() == before


def test_the_default_folder_is_named_by_configuration_and_fresh_starts_beside_it(
    fit: Callable[..., Any], run_folder: Path
):
    short = ("--trainer.max_steps=2", "--model.warmup_steps=0")
    assert fit(*short).code == 0
    (first,) = (run_folder / "runs").iterdir()
    assert first.name.startswith("tiny-")
    assert fit(*short, "--trainer.log_every_n_steps=2").out.startswith("finished before")
    assert fit(*short, "--fresh=true").code == 0
    assert sorted(path.name for path in (run_folder / "runs").iterdir()) == [first.name, f"{first.name}-2"]
    assert fit(*short, "--model.objective.init_args.temperature=0.1").code == 0
    assert len(list((run_folder / "runs").iterdir())) == 3


def test_the_saved_configuration_gives_the_same_run(fit: Callable[..., Any], run_folder: Path):
    assert fit("--run_dir=one", "--model.objective.init_args.temperature=0.07", "--seed_everything=3").code == 0
    again = fit("--config=one/config.yaml", "--run_dir=two")
    assert again.code == 0, again.err
    assert equal(state(run_folder / "one")["state_dict"], state(run_folder / "two")["state_dict"])


def test_the_best_step_is_exported_and_judged_after_a_reload(fit: Callable[..., Any], run_folder: Path):
    # The mean cosine of a pair that training pulls apart and together: whichever step is best, it is what is exported.
    outcome = fit("--run_dir=run", *EVALUATED, "--monitor=val/pair/cosine", "--mode=min")
    assert outcome.code == 0, outcome.err
    run = run_folder / "run"
    scores = {
        line["step"]: line["val/pair/cosine"] for line in lines_of(run / "metrics.jsonl") if "val/pair/cosine" in line
    }
    del scores[0]
    best = min(scores, key=lambda step: scores[step])
    result = json.loads((run / "result.json").read_text())
    assert result["exported_step"] == best == state(run, "best")["global_step"]
    assert result["metrics"]["test/pair/cosine"] == pytest.approx(scores[best], abs=1e-6)


def test_the_result_says_what_was_before(fit: Callable[..., Any], run_folder: Path):
    out = fit("--run_dir=run", *EVALUATED).out
    first = next(line for line in lines_of(run_folder / "run" / "metrics.jsonl") if line["step"] == 0)[
        "val/pair/cosine"
    ]
    assert f"step 0  val/pair/cosine {first:.4f}" in out
    last = json.loads((run_folder / "run" / "result.json").read_text())["metrics"]["test/pair/cosine"]
    assert re.search(rf"test/pair/cosine +{first:.4f} +{last:.4f} +{re.escape(f'{last - first:+.4f}')}\n", out)
    assert re.search(r"\n +before +after +gain\n", out)
    assert not re.search(r"before +after", fit("--run_dir=other", *EVALUATED[:2]).out)


def test_checkpoints_judged_otherwise_than_the_export_give_no_number_before(fit: Callable[..., Any], run_folder: Path):
    outcome = fit("--run_dir=run", *EVALUATED, "--model.max_length_at_dev=4")
    assert outcome.code == 0, outcome.err
    assert not re.search(r"before +after", outcome.out)
    result = json.loads((run_folder / "run" / "result.json").read_text())
    judged = [
        line["val/pair/cosine"] for line in lines_of(run_folder / "run" / "metrics.jsonl") if "val/pair/cosine" in line
    ]
    assert result["before"] == {}
    assert result["metrics"]["test/pair/cosine"] != pytest.approx(judged[-1], abs=1e-4)  # the export reads whole texts


def test_a_partial_last_accumulation_and_epochs_are_counted(fit: Callable[..., Any], run_folder: Path):
    options = ("--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.accumulate_grad_batches=2")
    with pytest.warns(UserWarning, match="adds no in-batch negatives.*chunk_tokens"):
        outcome = fit("--run_dir=run", *options, "--model.schedule=constant")
    assert outcome.code == 0, outcome.err
    assert state(run_folder / "run")["global_step"] == 4  # an epoch of 3 batches takes 2 steps
    lines = lines_of(run_folder / "run" / "metrics.jsonl")
    assert [line["train/samples_seen"] for line in lines] == [32, 40, 72, 80]


def test_a_schedule_over_epochs_is_that_over_their_steps(fit: Callable[..., Any], run_folder: Path):
    options = {
        "steps": ("--trainer.max_steps=6", "--model.warmup_steps=2"),
        "epochs": ("--trainer.max_steps=-1", "--trainer.max_epochs=2", "--model.warmup_steps=0.3"),
        "both": ("--trainer.max_steps=50", "--trainer.max_epochs=2", "--model.warmup_steps=2"),
    }
    for name, given in options.items():
        outcome = fit(f"--run_dir={name}", *given)
        assert outcome.code == 0, outcome.err
    steps, epochs, both = (
        [line["train/lr"] for line in lines_of(run_folder / name / "metrics.jsonl") if "train/lr" in line]
        for name in options
    )
    assert len(steps) == 6
    assert steps == epochs == both


def test_a_run_of_no_steps_exports_and_judges_what_was_built(fit: Callable[..., Any], run_folder: Path):
    outcome = fit("--run_dir=run", "--trainer.max_steps=0", *EVALUATED)
    assert outcome.code == 0, outcome.err
    assert "finished: 0 steps" in outcome.out
    result = json.loads((run_folder / "run" / "result.json").read_text())
    assert (result["steps"], result["train"]) == (0, {})
    encoder = Encoder.from_pretrained(run_folder / "run" / "export")
    assert result["metrics"]["test/pair/cosine"] == pytest.approx(Similarity()(encoder)["cosine"], abs=1e-6)


def test_worker_processes_change_nothing(fit: Callable[..., Any], run_folder: Path):
    assert fit("--run_dir=one", "--trainer.max_steps=4").code == 0
    assert fit("--run_dir=two", "--trainer.max_steps=4", "--data.num_workers=1").code == 0
    assert equal(state(run_folder / "one")["state_dict"], state(run_folder / "two")["state_dict"])


@pytest.mark.parametrize("value", ["false", "true"])
def test_loggers_are_as_asked_for(fit: Callable[..., Any], run_folder: Path, value: str):
    assert fit("--run_dir=run", "--trainer.max_steps=2", f"--trainer.logger={value}").code == 0
    assert (run_folder / "run" / "metrics.jsonl").exists()
    assert (run_folder / "run" / "tensorboard").exists() == (value == "true")


def test_tensorboard_can_compare_runs_by_their_settings(fit: Callable[..., Any], run_folder: Path):
    assert fit("--run_dir=run", "--trainer.max_steps=2", "--model.optimizer.init_args.lr=0.02").code == 0
    found = yaml.safe_load((run_folder / "run" / "tensorboard" / "hparams.yaml").read_text())
    assert found["model.optimizer.init_args.lr"] == 0.02
    assert (found["data.batch_size"], found["model.chunk_tokens"], found["seed_everything"]) == (16, 128, 0)
    assert found["model.objective.init_args.temperature"] == 0.05
    assert found["model.encoder.init_args.backbone.class_path"].endswith("TinyRandom")
    assert any(b"model.optimizer.init_args.lr" in path.read_bytes() for path in run_folder.rglob("events.*"))


def test_bf16_autocast_and_clipping_train(fit: Callable[..., Any], run_folder: Path):
    options = ("--trainer.precision=bf16-mixed", "--trainer.gradient_clip_val=1.0", "--trainer.max_steps=3")
    outcome = fit("--run_dir=run", *options)
    assert outcome.code == 0, outcome.err
    assert "precision bf16-mixed" in outcome.out


def test_the_program_prints_progress_and_no_chatter_of_libraries(run_folder: Path):
    done = complete(run_folder, "--run_dir=run", "--trainer.enable_progress_bar=true", "--trainer.max_steps=3")
    assert done.returncode == 0, done.stderr
    assert "step 3/3  loss" in done.stderr
    assert "Warning" not in done.stderr
    assert (run_folder / "run" / "result.json").exists()


def test_a_run_that_is_out_of_time_goes_on_with_more(fit: Callable[..., Any], run_folder: Path):
    slow = "--trainer.callbacks=[{class_path: fit_parts.Slow, init_args: {step_seconds: 0.4, save_seconds: 0.0}}]"
    options = ("--run_dir=run", "--trainer.max_steps=6", slow)
    stopped = fit(*options, "--trainer.max_time=00:00:00:01")
    assert stopped.code == 75
    assert "trainer.max_time is over: stopped after step" in stopped.err
    assert not (run_folder / "run" / "result.json").exists()
    done = fit(*options, "--trainer.max_time=00:01:00:00")
    assert done.code == 0
    assert "finished: 6 steps" in done.out


def test_texts_longer_than_the_backbone_are_refused_before_the_first_step(fit: Callable[..., Any]):
    refused = fit("--run_dir=run", "--data.max_length=100000")
    assert refused.code == 2
    assert "Set --data.max_length." in refused.err
    assert not Path("run").exists()


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "32-true"])
def test_scores_are_compared_as_the_file_has_them_in_any_precision(
    fit: Callable[..., Any], run_folder: Path, precision: str
):
    rows = "".join(f"{i} plus {i}?,{i + i} it is,0.7\n" for i in range(16))
    (run_folder / "pairs.csv").write_text("anchor,positive,score\n" + rows)
    outcome = fit(
        "--run_dir=run",
        "--model.objective.init_args.positive_score=0.7",  # in bfloat16 0.7 is 0.6992
        f"--trainer.precision={precision}",
        "--trainer.max_steps=1",
        "--model.warmup_steps=0",
    )
    assert outcome.code == 0, outcome.err
    assert lines_of(run_folder / "run" / "metrics.jsonl")[0]["train/loss"] > 0.1


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_the_umask_decides_who_reads_what_a_run_leaves(fit: Callable[..., Any], run_folder: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        lora = "--model.encoder.init_args.backbone.init_args.lora.rank=2"
        assert fit("--run_dir=run", lora, "--trainer.max_steps=2", "--model.warmup_steps=0").code == 0
    finally:
        os.umask(before)
    files = [path for path in (run_folder / "run").rglob("*") if path.is_file()]
    assert {"model.safetensors", "adapter_model.safetensors", "last.ckpt", "run.json"} <= {path.name for path in files}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {path.name: mode for path in files}
