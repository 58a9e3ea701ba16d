from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from inbatch.config import explain, find_config, in_a_run, keep_path, locate_configs, with_arguments
from inbatch.errors import MissingError, UsageError

KEYS = ["trainer.max_steps", "data.batch_size", "run_dir"]


def test_a_path_wins_and_a_packaged_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    packaged = find_config("simcse/unsup-bert-base.yaml")
    assert packaged.is_absolute()
    assert packaged.is_file()
    (tmp_path / "simcse").mkdir()
    own = tmp_path / "simcse" / "unsup-bert-base.yaml"
    own.write_text("seed_everything: 1")
    assert find_config("simcse/unsup-bert-base.yaml") == Path("simcse/unsup-bert-base.yaml")


@pytest.mark.parametrize("words", [["--config", "a.yaml"], ["--config=a.yaml"], ["-c", "a.yaml"]])
def test_arguments_keep_their_order_and_the_last_file_names_the_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "row.v2.yaml"):
        Path(name).write_text("seed_everything: 1")
    located, name = locate_configs([*words, "--x=1", "--config", "row.v2.yaml", "--y", "2"])
    option = words[0].partition("=")[0]
    assert located == [option, "a.yaml", "--x=1", "--config", "row.v2.yaml", "--y", "2"]
    assert name == "row.v2"
    assert locate_configs(["--config", str(Path("a.yaml").absolute())])[1] == "a"
    assert locate_configs(["--config", "simcse/unsup-bert-base.yaml"])[1] == "simcse-unsup-bert-base"
    assert locate_configs(["--x=1"]) == (["--x=1"], None)


def test_a_missing_file_is_answered_with_the_near_or_the_folders_or_what_is_in_one():
    with pytest.raises(MissingError, match=r"Did you mean simcse/unsup-bert-base\.yaml\?"):
        find_config("simcse/unsup-bert.yaml")
    with pytest.raises(
        MissingError, match=r"Packaged are: base\.yaml, quickstart\.yaml, and rows in angle/, .*, small-llm/;"
    ):
        find_config("/zzz")
    with pytest.raises(MissingError, match=r"Packaged in simcse/ are: simcse/cpu-minilm\.yaml, .*-mlm\.yaml") as error:
        find_config("simcse/")
    assert "promcse" not in str(error.value)


def test_a_file_may_not_set_what_the_seed_decides(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {seed: 1}")
    with pytest.raises(UsageError, match="data.seed is set by seed_everything"):
        locate_configs(["--config", str(path)])
    path.write_bytes(b"\xff\xfe\x00")  # left to the parser
    locate_configs(["--config", str(path)])


@pytest.mark.parametrize("words", [["--data.sources=a.csv"], ["--data.sources", "a.csv"]])
def test_a_file_stands_beside_the_fields_of_its_source(words: list[str]):
    columns = ["--data.sources.columns={anchor: q, positive: [a]}"]
    assert keep_path([*words, *columns]) == [*words, "--data.sources.path=a.csv", *columns]
    assert keep_path([*words, "--data.sources.view", "pair"])[-3:] == [
        "--data.sources.path=a.csv", "--data.sources.view", "pair",
    ]  # fmt: skip
    for alone in (words, columns, ["--data.sources"], ["--data.sources={path: a.csv}", *columns]):
        assert keep_path(alone) == alone


@pytest.mark.parametrize("value", ["path:a.csv", "columns:anchor:q"])
def test_a_source_that_a_shell_took_apart_is_answered_with_how_to_write_it(value: str):
    with pytest.raises(UsageError, match=f"and the whole in quotes: '--data.sources={{path: .*; got {value}"):
        keep_path([f"--data.sources={value}"])


@pytest.mark.parametrize("value", ["{anchor:q,positive:a}", "anchor:q", "{anchor:", "q", "[q, a]", "{anchor: q"])
def test_columns_that_are_no_mapping_are_answered_with_how_to_write_them(value: str):
    with pytest.raises(UsageError) as error:
        keep_path(["--data.sources.path=a.csv", f"--data.sources.columns={value}"])
    assert "in quotes: '--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}'; got " in str(error.value)


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        ("unrecognized arguments: --trainer.max_stepz=3", "no option --trainer.max_stepz. Did you mean trainer.max_steps?"),
        ("unrecognized arguments: m.csv, columns: {anchor:", "m.csv, belongs to no option; a value with blanks stands in quotes"),
        ("unrecognized arguments: --columns anchor=a", "no option --columns: columns belong to a source. Write '--data.sources="),
        ("Group 'data' does not accept option 'columns'", "no option data.columns: columns belong to a source. Write '--data.sources="),
        ("Group 'data' does not accept option 'batchsize'", "no option data.batchsize. Did you mean data.batch_size?"),
        ("Option 'rundir' is not accepted", "there is no option rundir. Did you mean run_dir?"),
        (
            "Problem with given class_path 'inbatch.losses.infonce.InfoNCE':\n  Option 'tmp' is not accepted",
            "inbatch.losses.infonce.InfoNCE has no option tmp. It has temperature,",
        ),
        (
            "Problem with given class_path 'inbatch.models.adapters.Lora':\n  Option 'r' is not accepted",
            "inbatch.models.adapters.Lora has no option r. Did you mean rank?",
        ),
        ("Problem with given class_path 'no.such.Thing':\n  Option 'tmp' is not accepted", "no.such.Thing has no option tmp"),
        ('Key "model.encoder" is required', "expected model.encoder to be set; it is not."),
        ("Expected a dot import path string: losses.Nce", "Expected a dot import path string: losses.Nce"),
        ("Problem with given class_path 'inbatch.losses.base.Qqqqqqqqqqqqqqqqqqqqqqq'", "inbatch.losses.base has none near it"),
        ("x" * 900, " ..."),
    ],
)  # fmt: skip
def test_complaints_become_one_sentence(complaint: str, sentence: str):
    said = str(explain(argparse.ArgumentError(None, complaint), KEYS))
    assert sentence in said
    assert "\n" not in said
    assert len(said) < 500


def test_an_evaluators_folder_is_asked_for_as_a_run_takes_it():
    sts, other = {"init_args": {"data_dir": None}}, {"class_path": "other"}
    error = MissingError("expected STS. Give --data-dir.")
    assert str(in_a_run(error, {"dev": sts, "b": other})).endswith("Give --evaluators.dev.init_args.data_dir.")
    assert str(in_a_run(error, {"a": sts, "b": sts})).endswith("Give --evaluators.NAME.init_args.data_dir.")
    assert isinstance(in_a_run(error, {}), MissingError)


def test_a_command_that_takes_the_same_arguments_is_given_with_them():
    error = MissingError("Make it: inbatch synthesize reference-scores --config …; then go on.")
    arguments = ["--config", "my row.yaml", "--fresh", "true", "--data.batch_size=2", "--fresh=true"]
    said = str(with_arguments(error, arguments))
    assert said.endswith("reference-scores --config 'my row.yaml' --data.batch_size=2; then go on.")
    assert str(with_arguments(UsageError("expected more."), arguments)) == "expected more."


def test_what_is_ours_in_an_error_is_found():
    ours, theirs = UsageError("ours"), ValueError("theirs")
    assert in_a_run(theirs, {}) is theirs
    theirs.__cause__ = ours
    assert in_a_run(theirs, {}) is ours
