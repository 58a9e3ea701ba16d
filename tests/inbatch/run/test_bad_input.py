"""Whatever is wrong is said in one sentence, with its exit code, before the first step, and leaves nothing half-written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fit_helpers import Forked, equal, state, steps_in, write_run

MISTAKES = [
    # Names: unknown, mistyped, abbreviated; on the command line.
    (["--trainer.max_stepz=3"], 2, "no option --trainer.max_stepz. Did you mean trainer.max_steps?"),
    (["--trainer.max_step=3"], 2, "no option --trainer.max_step. Did you mean trainer.max_steps?"),
    (["--frsh=true"], 2, "no option --frsh. Did you mean fresh?"),
    (["--data.batchsize=3"], 2, "no option --data.batchsize. Did you mean data.batch_size?"),
    (["--model.objective.init_args.temprature=1"], 2, "InfoNCE has no option temprature. Did you mean temperature?"),
    (["--model.optimizer.init_args.wd=1"], 2, "AdamW has no option wd. It has "),
    (["--model.objective.class_path=InfoNC"], 2, "Did you mean InfoNCE?"),
    (["--model.objective.class_path=inbatch.losses.infonc.InfoNCE"], 2, "Write class_path: InfoNCE."),
    (["--model.objective=MultipleNegativesRankingLoss"], 2, "There are Angle, CoSENT, DCL, "),
    (["--model.objective=InfoNC"], 2, "Did you mean InfoNCE?"),
    (["--model.objective.class_path=fit_parts.NotAnObjective"], 2, "not correspond to a subclass of Objective"),
    # Values.
    (["--trainer.max_steps=many"], 2, "trainer.max_steps: Expected a int. Got value: many"),
    (["--trainer.precision=7"], 2, "trainer.precision: expected one of 64, 32, 16"),
    (["--trainer.precision=atuo"], 2, "got atuo. Did you mean auto?"),
    (["--trainer.precision=bf16-mixd"], 2, "got bf16-mixd. Did you mean bf16-mixed?"),
    (["--model.encoder.init_args.pooling=max"], 2, "pooling: Expected a one of 'mean', 'cls'"),
    (["--model.objective.init_args.temperature=0"], 2, "expected a finite temperature"),
    (["--model.optimizer.init_args.lr=-1"], 2, "the optimizer refuses its settings: Invalid learning rate: -1.0"),
    (["--model.warmup_steps=-1"], 2, "or a share below 1; got -1"),
    (["--model.warmup_steps=13"], 2, "expected warmup_steps of at most max_steps=12; got 13"),
    (["--model.chunk_tokens=0"], 2, "expected chunk_tokens >= 1 or null; got 0"),
    (["--checkpoint_every=0"], 2, "expected checkpoint_every >= 1; got 0"),
    (["--seed_everything=true"], 2, "expected seed_everything to be a number"),
    (["--trainer.max_steps=-1"], 2, "Set --trainer.max_steps"),
    (["--model.encoder.init_args.backbone.init_args.frozen=true", "--model.objective.init_args.learn_temperature=false"],
     2, "nothing is trainable"),
    (["--trainer.devices=2", "--trainer.strategy=nonsense"], 2, "the trainer refuses its settings: You selected an invalid strategy name"),
    # Evaluation.
    (["--evaluate_every=2"], 2, "as evaluate_every is set; got none. Set --evaluators, or set --evaluate_every=null."),
    (["--evaluate_first=true"], 2, "Set --evaluators, or set --evaluate_first=false."),
    (["--evaluators.a.class_path=fit_parts.Similarity", "--evaluate_every=0"], 2, "expected evaluate_every >= 1"),
    (["--evaluators.dev.class_path=Sts", "--evaluators.dev.init_args.data_dir=nowhere", "--evaluate_every=2"],
     3, "then give that folder as --evaluators.dev.init_args.data_dir."),
    (["--monitor=val/a/cosine"], 2, "expected monitor to be a tag of an evaluator (none)"),
    # Data.
    (["--data.batch_size=41"], 2, "batch_size 41 is larger than the 40 rows"),
    (["--data.sources=none.csv"], 3, "none.csv"),
    (["--data.sources=empty.csv"], 2, "empty.csv"),
    (["--data.sources=latin.csv"], 2, "latin.csv"),
    (["--data.sources=ragged.csv"], 2, "ragged.csv"),
    (["--data.sources=undecided.csv"], 2, "'--data.sources={path: undecided.csv, header: true, columns: {anchor: alpha, positive: positive}}'"),
    (["--data.sources.columns={anchor: alpha}"], 2, "expected a path beside its other fields; got none. Set --data.sources.path=FILE"),
    (["--data.sources.path=a.csv", "--data.sources.columns={anchor:a}"], 2, "with a blank behind each colon"),
    (["--data.sources={path:a.csv,columns:{anchor:a}}"], 2, "with a blank behind each colon"),
    (["--data.columns={anchor: a}"], 2, "columns belong to a source. Write '--data.sources={path: FILE,"),
    (["--columns", "anchor=a"], 2, "columns belong to a source. Write '--data.sources={path: FILE,"),
    (["--model.encoder.init_args.backbone.init_args.lora={r: 8}"], 2, "Lora has no option r. Did you mean rank?"),
    # Files and models.
    (["--config=nowhere.yaml"], 3, "no configuration file nowhere.yaml"),
    (["--config=quickstrat.yaml"], 3, "Did you mean quickstart.yaml?"),
    (["--config"], 2, "expected a YAML file after --config"),
    (["--model.encoder.init_args.backbone.class_path=Pretrained",
      "--model.encoder.init_args.backbone.init_args.name=nobody/nothing"], 3, "hf download nobody/nothing"),
    (["--run_dir=pairs.csv"], 2, "pairs.csv is a file. Set --run_dir"),
]  # fmt: skip

IN_YAML = [
    ("trainer: {max_stepz: 3}", "no option trainer.max_stepz. Did you mean trainer.max_steps?"),
    ("modle: {seed: 1}", "no option modle.seed"),
    ("evaluate_evry: 3", "no option evaluate_evry. Did you mean evaluate_every?"),
    ("model: {objective: {init_args: {symetric: true}}}", "InfoNCE has no option symetric. Did you mean symmetric?"),
    (
        "model: {encoder: {init_args: {backbone: {init_args: {kid: bert}}}}}",
        "TinyRandom has no option kid. Did you mean kind?",
    ),
    ("model: {seed: 3}", "model.seed is set by seed_everything"),
    ("model: [", "expected YAML in more.yaml"),
]


@pytest.fixture
def bad_files(run_folder: Path) -> None:
    (run_folder / "empty.csv").write_text("")
    (run_folder / "latin.csv").write_bytes("anchor,positive\nà,b\n".encode("latin1"))
    (run_folder / "ragged.csv").write_text("anchor,positive\na,b\nc\nd,e,f\n")
    (run_folder / "undecided.csv").write_text("alpha,beta,gamma,delta,positive\n" + "a,b,c,d,e\n" * 3)


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(("arguments", "code", "sentence"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_answered_in_one_sentence(
    fit: Callable[..., Any], run_folder: Path, arguments: list[str], code: int, sentence: str
):
    outcome = fit("--run_dir=run", *arguments) if "--run_dir=pairs.csv" not in arguments else fit(*arguments)
    assert outcome.code == code, outcome.err
    assert sentence in outcome.err
    (said,) = (line for line in outcome.err.splitlines() if line.startswith("inbatch: error: "))
    assert "Traceback" not in outcome.err
    assert len(said) < 600
    assert not (run_folder / "run").exists()


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    "words",
    [
        ["--data.sources={path: undecided.csv, columns: {anchor: beta, positive: positive}}"],
        ["--data.sources=undecided.csv", "--data.sources.columns={anchor: beta, positive: positive}"],
    ],
)
def test_columns_of_a_file_are_said_on_the_command_line(fit: Callable[..., Any], words: list[str]):
    outcome = fit("--run_dir=run", *words, "--data.batch_size=2", "--trainer.max_steps=2")
    assert outcome.code == 0, outcome.err
    assert "anchor = beta; positive = positive (as set)" in outcome.out


DOUBTFUL = {
    "without_names.csv": b"der hund;the dog\ndie katze;a cat\neine maus;a mouse\n",
    "utf16.csv": "anchor;positive\nder hund;the dog\ndie katze;a cat\n".encode("utf-16-le"),
    "key.csv": b"key,frage,antwort\nax,der hund,the dog\nby,die katze,a cat\ncz,eine maus,a mouse\n",
    "unusual.csv": b"anchor~positive\nder hund~the dog\ndie katze~a cat\neine maus~a mouse\n",
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_the_line_of_a_refusal_works_when_it_is_typed(fit: Callable[..., Any], run_folder: Path, name: str):
    (run_folder / name).write_bytes(DOUBTFUL[name])
    small = ["--data.batch_size=2", "--trainer.max_steps=1", "--model.warmup_steps=0"]
    refused = fit("--run_dir=run", f"--data.sources={name}", *small)
    assert refused.code == 2, refused.err
    assert not (run_folder / "run").exists()
    lines = re.findall(r"'(--data\.sources=\{.*?\})'", refused.err)
    seen = []
    for i, line in enumerate(lines):
        outcome = fit(f"--run_dir=run{i}", line, *small)
        assert outcome.code == 0, outcome.err
        seen.append([shown.split(": ")[1] for shown in outcome.out.splitlines() if shown.startswith("  1. ")])
    assert ["der hund", "the dog"] in seen


def test_a_mistake_that_shows_after_steps_keeps_what_they_measured(fit: Callable[..., Any], run_folder: Path):
    outcome = fit(
        "--run_dir=run",
        "--evaluators.a.class_path=fit_parts.Similarity",
        "--evaluate_every=2",
        "--monitor=val/a/cosin",
    )
    assert outcome.code == 2
    assert "expected monitor to be one of val/a/cosine; got 'val/a/cosin'" in outcome.err
    assert "Did you mean val/a/cosine? Set --monitor." in outcome.err
    assert '"train/loss"' in (run_folder / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("text", "sentence"), IN_YAML)
def test_a_mistake_inside_of_a_file_is_answered_as_well(
    fit: Callable[..., Any], run_folder: Path, text: str, sentence: str
):
    (run_folder / "more.yaml").write_text(text)
    outcome = fit("--run_dir=run", "--config=more.yaml")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (run_folder / "run").exists()


def test_a_run_folder_of_another_configuration_is_refused(fit: Callable[..., Any], run_folder: Path):
    assert fit("--run_dir=run", "--trainer.max_steps=2").code == 0
    outcome = fit("--run_dir=run", "--trainer.max_steps=3", "--data.num_workers=1")
    assert outcome.code == 2
    assert "run belongs to another configuration (trainer.max_steps: 2 -> 3)" in outcome.err
    assert state(run_folder / "run")["global_step"] == 2


def test_a_loss_that_is_not_a_number_names_the_step_and_keeps_the_last_checkpoint(
    fit: Callable[..., Any], run_folder: Path
):
    broken = ("--model.objective.class_path=fit_parts.NanAt", "--model.objective.init_args.at=5")
    options = (*broken, "--checkpoint_every=2")
    outcome = fit("--run_dir=run", *options)
    assert outcome.code == 4
    assert "the loss is nan at step 5" in outcome.err
    kept = state(run_folder / "run")
    assert kept["global_step"] == 4
    assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values())
    assert steps_in(run_folder / "run")[-1] == 4


def test_a_parameter_without_gradient_is_named_after_two_steps(fit: Callable[..., Any], run_folder: Path):
    outcome = fit("--run_dir=run", "--model.objective.class_path=fit_parts.WithUnused")
    assert outcome.code == 4
    assert "no gradient reached objective.unused in the first 2 steps" in outcome.err


def test_lora_trains_although_its_a_has_no_gradient_at_first(fit: Callable[..., Any]):
    lora = "--model.encoder.init_args.backbone.init_args.lora.rank=2"
    outcome = fit("--run_dir=run", lora, "--trainer.max_steps=4")
    assert outcome.code == 0, outcome.err


def test_an_evaluator_that_fails_ends_the_run_with_its_traceback_kept(fit: Callable[..., Any], run_folder: Path):
    outcome = fit("--run_dir=run", "--evaluators.a.class_path=fit_parts.BrokenEvaluator", "--evaluate_every=2")
    assert outcome.code == 1
    assert "ValueError: the evaluator is broken (traceback in run/error.txt)" in outcome.err
    assert "fit_parts.py" in (run_folder / "run" / "error.txt").read_text()


def test_long_texts_and_empty_strings_are_handled(fit: Callable[..., Any], run_folder: Path):
    rows = [f"{i} {'word ' * (100_000 if i == 3 else 1)},answer {i}" for i in range(16)]
    (run_folder / "odd.csv").write_text("\n".join(["anchor,positive", *rows, '"",answer', "question,"]) + "\n")
    outcome = fit("--run_dir=run", "--data.sources=odd.csv", "--trainer.max_steps=2", "--data.batch_size=4")
    assert outcome.code == 0, outcome.err
    assert "16 rows, 2 dropped as empty" in outcome.out


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path):
    write_run(tmp_path)
    run = tmp_path / "run"
    fill = "--trainer.callbacks=[{class_path: fit_parts.FullDiskAfter, init_args: {step: 3}}]"
    process = Forked(tmp_path, "--run_dir=run", fill)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "cannot write the checkpoint run/checkpoints/last.ckpt: File too large; the one of step 3 is kept" in err
    assert state(run)["global_step"] == 3
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_a_damaged_checkpoint_is_never_loaded(fit: Callable[..., Any], run_folder: Path, damage: str):
    options = ("--run_dir=run", "--model.objective.class_path=fit_parts.NanAt", "--model.objective.init_args.at=5")
    assert fit(*options).code == 4
    path = run_folder / "run" / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "cut short":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    outcome = fit(*options)
    assert outcome.code == 1
    assert "last.ckpt is damaged" in outcome.err
    assert "--fresh" in outcome.err


def test_a_damaged_last_checkpoint_falls_back_to_the_best(fit: Callable[..., Any], run_folder: Path):
    judged = ("--evaluators.a.class_path=fit_parts.Early", "--evaluate_every=3", "--monitor=val/a/score")
    assert fit("--run_dir=run", *judged).code == 0
    run = run_folder / "run"
    undamaged = state(run)
    (run / "result.json").unlink()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged; resuming from best\.ckpt"):
        outcome = fit("--run_dir=run", *judged)
    assert outcome.code == 0, outcome.err
    assert "resuming after step 3" in outcome.out
    assert equal(state(run)["state_dict"], undamaged["state_dict"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.repetition.rate=1.5", "a repetition rate in (0, 1]; got 1.5. Set --data.repetition.rate."),
        (
            "--model.encoder.init_args.backbone.init_args.prefix.length=0",
            "got 0. Set --model.encoder.init_args.backbone.init_args.prefix.length.",
        ),
        (
            "--model.encoder.init_args.backbone.init_args.lora.rank=0",
            "got 0. Set --model.encoder.init_args.backbone.init_args.lora.rank.",
        ),
    ],
)
def test_a_setting_that_may_be_null_is_refused_in_its_own_words(
    fit: Callable[..., Any], run_folder: Path, option: str, words: str
):
    outcome = fit(option)
    assert outcome.code == 2
    assert words in outcome.err
    assert not (run_folder / "runs").exists()
