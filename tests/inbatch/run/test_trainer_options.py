"""What of Lightning's trainer would be silently wrong in a run is refused by name; the rest works as Lightning documents it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import equal, lines_of, state

LIGHTNING = "lightning.pytorch.callbacks."


def callback(name: str, **settings: Any) -> str:
    given = ", ".join(f"{key}: {value}" for key, value in settings.items())
    path = name if "." in name else LIGHTNING + name
    return f"--trainer.callbacks=[{{class_path: {path}, init_args: {{{given}}}}}]"


REFUSED = [
    (["--trainer.fast_dev_run=true"], "set --trainer.max_steps to a few"),
    (["--trainer.fast_dev_run=3"], "trainer.fast_dev_run=3 is not available"),
    (["--trainer.overfit_batches=2"], "trainer.overfit_batches=2"),
    (["--trainer.overfit_batches=0.5"], "set --data.sources to a small file"),
    (["--trainer.barebones=true"], "trainer.barebones=True"),
    (["--trainer.enable_checkpointing=true"], "set --checkpoint_every, and monitor"),
    (["--trainer.model_registry=mine"], "trainer.model_registry=mine"),
    (["--trainer.limit_val_batches=0.5"], "set --evaluators and --evaluate_every"),
    (["--trainer.limit_test_batches=3"], "trainer.limit_test_batches=3"),
    (["--trainer.limit_predict_batches=3"], "trainer.limit_predict_batches=3"),
    (["--trainer.val_check_interval=2"], "trainer.val_check_interval=2"),
    (["--trainer.check_val_every_n_epoch=2"], "trainer.check_val_every_n_epoch=2"),
    (["--trainer.num_sanity_val_steps=2"], "trainer.num_sanity_val_steps=2"),
    (["--trainer.limit_train_batches=0"], "would train nothing"),
    (["--trainer.limit_train_batches=0.0"], "would train nothing"),
    (["--trainer.limit_train_batches=0.1"], "Try at least `limit_train_batches=0.33"),
    (["--trainer.limit_train_batches=2.5"], "it has to be in [0.0, 1.0] or an int"),
    (["--trainer.limit_train_batches=-1"], "the trainer refuses its settings"),
    (["--trainer.accumulate_grad_batches=0"], "expected trainer.accumulate_grad_batches >= 1; got 0"),
    (["--trainer.accumulate_grad_batches=-2"], "Set --trainer.accumulate_grad_batches."),
    (["--trainer.log_every_n_steps=0"], "expected trainer.log_every_n_steps >= 1; got 0"),
    (["--trainer.gradient_clip_algorithm=value"], "Set --trainer.gradient_clip_val."),
    (["--trainer.gradient_clip_val=1", "--trainer.gradient_clip_algorithm=nomr"], "Allowed algorithms: ['value', 'norm']"),
    (["--trainer.max_time=00:00:00:00"], "Set a longer --trainer.max_time."),
    (["--trainer.max_time=1h"], "expected trainer.max_time as DD:HH:MM:SS, or as {hours: 2}; got 1h."),
    (["--trainer.max_time={houres: 1}"], "Set --trainer.max_time."),
    (["--trainer.strategy=ddp_spawn", "--trainer.devices=2"], "Set --trainer.strategy=ddp."),
    (["--trainer.strategy=ddp_fork", "--trainer.devices=2"], "trainer.strategy=ddp_fork is not available"),
    (["--trainer.strategy=ddp_notebook", "--trainer.devices=2"], "trainer.strategy=ddp_notebook"),
    (["--trainer.strategy={class_path: lightning.pytorch.strategies.DDPStrategy, init_args: {start_method: fork}}",
      "--trainer.devices=2"], "trainer.strategy=fork"),
    (["--trainer.strategy=fsdp"], "the trainer refuses its settings"),
    (["--seed_everything=-1"], "expected seed_everything to lie in [0, 4294967295]; got -1"),
    (["--seed_everything=4294967296"], "got 4294967296. Set --seed_everything."),
    (["--seed_everything=99999999999999999999"], "got 99999999999999999999"),
    (["--model.optimizer=[{class_path: torch.optim.AdamW}, {class_path: torch.optim.SGD}]"], "model.optimizer"),
    ([callback("StochasticWeightAveraging", swa_lrs=0.01)], "EMAWeightAveraging, with use_buffers: false"),
    ([callback("EMAWeightAveraging", decay=0.9)], "Set use_buffers to false"),
    ([callback("WeightAveraging", use_buffers="true")], "the callback WeightAveraging would average whole numbers"),
    ([callback("EMAWeightAveraging", use_buffers="false", update_starting_at_epoch=1)], "Set update_starting_at_step"),
    ([callback("Timer", duration="'00:00:01:00'")], "set --trainer.max_time"),
    ([callback("ModelCheckpoint", monitor="train/loss")], "the callback ModelCheckpoint is not available"),
    ([callback("OnExceptionCheckpoint", dirpath="there")], "the callback OnExceptionCheckpoint is not available"),
    ([callback("BatchSizeFinder")], "set --data.batch_size"),
    ([callback("LearningRateFinder")], "set --model.optimizer.init_args.lr"),
    ([callback("BackboneFinetuning")], "set --model.encoder.init_args.backbone.init_args.frozen"),
    ([callback("ModelPruning", pruning_fn="l1_unstructured")], "hold no masks"),
    ([callback("EarlyStopping", monitor="val/loss")], "to monitor train/loss, the only number that callbacks see; got val/loss"),
    ([callback("fit_parts.OwnStopping", monitor="val/pair/cosine")], "the callback OwnStopping to monitor train/loss"),
    ([callback("GradientAccumulationScheduler", scheduling="{0: 2}"), "--trainer.accumulate_grad_batches=2"], "Leave one of them out."),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda value: str(value)[:70])
def test_what_would_be_wrong_is_refused_before_the_first_step(
    fit: Callable[..., Any], run_folder: Path, arguments: list[str], sentence: str
):
    outcome = fit("--run_dir=run", *arguments)
    assert outcome.code == 2, outcome.err
    assert sentence in outcome.err
    (said,) = (line for line in outcome.err.splitlines() if line.startswith("inbatch: error: "))
    assert len(said) < 600
    assert not (run_folder / "run").exists()
    assert sorted(path.name for path in run_folder.iterdir()) == ["pairs.csv", "tiny.yaml"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fit_helpers import complete_forked, write_run

    folder = tmp_path_factory.mktemp("plain")
    write_run(folder)
    done = complete_forked(folder, "--run_dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.num_sanity_val_steps=0", "--trainer.limit_val_batches=0"],
        ["--trainer.detect_anomaly=true", "--trainer.benchmark=true"],
        ["--trainer.deterministic=true"],
        ["--trainer.reload_dataloaders_every_n_epochs=1"],
        [callback("LearningRateMonitor")],
        [callback("EarlyStopping", monitor="train/loss", patience=9)],
        [callback("DeviceStatsMonitor")],
    ],
    ids=str,
)
def test_what_should_change_nothing_changes_nothing(
    fit: Callable[..., Any], run_folder: Path, plain: Path, arguments: list[str]
):
    outcome = fit("--run_dir=run", *arguments)
    assert outcome.code == 0, outcome.err
    assert equal(state(run_folder / "run")["state_dict"], state(plain)["state_dict"])


def test_the_largest_seed_trains(fit: Callable[..., Any]):
    assert fit("--run_dir=run", "--seed_everything=4294967295", "--trainer.max_steps=2").code == 0


def test_early_stopping_ends_a_run_as_finished(fit: Callable[..., Any], run_folder: Path):
    stopping = callback("EarlyStopping", monitor="train/loss", mode="max", patience=1)
    outcome = fit("--run_dir=run", stopping)
    assert outcome.code == 0, outcome.err
    assert "finished: 6 steps" in outcome.out
    assert fit("--run_dir=run", stopping).out.startswith("finished before: 6 steps")


def test_clipping_by_value_and_by_norm_differ(fit: Callable[..., Any], run_folder: Path, plain: Path):
    for name in ("value", "norm"):
        options = (f"--trainer.gradient_clip_algorithm={name}", "--trainer.gradient_clip_val=0.001")
        sgd = "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 1.0}}"
        assert fit(f"--run_dir={name}", *options, sgd, "--model.warmup_steps=0", "--trainer.max_steps=1").code == 0
    states = [state(run_folder / name)["state_dict"] for name in ("value", "norm")]
    assert not equal(*states)


@pytest.mark.parametrize(
    ("limit", "steps", "seen"),
    [
        ("1", 4, [16, 32, 40, 56]),  # one batch an epoch
        ("1.0", 12, None),  # all of them
        ("2", 8, None),
        ("0.67", 8, None),
        ("0.34", 4, None),
        ("100", 12, None),
    ],
)
def test_a_limit_is_a_number_of_batches_or_a_share(
    fit: Callable[..., Any], run_folder: Path, limit: str, steps: int, seen: list[int] | None
):
    options = ("--trainer.max_steps=-1", "--trainer.max_epochs=4", "--model.warmup_steps=0.25")
    outcome = fit("--run_dir=run", f"--trainer.limit_train_batches={limit}", *options)
    assert outcome.code == 0, outcome.err
    lines = [line for line in lines_of(run_folder / "run" / "metrics.jsonl") if "train/loss" in line]
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert seen is None or [line["train/samples_seen"] for line in lines] == seen
    assert lines[-1]["train/lr"] > 0  # the schedule ends with the run, not before
    assert lines[-1]["train/lr"] == pytest.approx(0.003 / (steps - steps // 4), rel=1e-6)


def test_a_profiler_reports(run_folder: Path):
    from fit_helpers import complete

    done = complete(run_folder, "--run_dir=run", "--trainer.profiler=simple", "--trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    assert "FIT Profiler Report" in done.stdout + done.stderr
