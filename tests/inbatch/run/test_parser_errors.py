"""Complaints of the parser become sentences that name what is wrong and what mends it."""

from __future__ import annotations

import argparse

import pytest

from inbatch.errors import MissingError, UsageError
from inbatch.run.parser_errors import explain, in_a_run, with_arguments

KEYS = ["trainer.max_steps", "data.batch_size", "run_dir"]


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        ("unrecognized arguments: --trainer.max_stepz=3", "no option --trainer.max_stepz. Did you mean trainer.max_steps?"),
        ("unrecognized arguments: m.csv, columns: {anchor:", "m.csv, belongs to no option; a value with blanks stands in quotes"),
        ("unrecognized arguments: --columns anchor=a", "no option --columns: columns belong to a source. Write '--data.sources="),
        ("Group 'data' does not accept option 'columns'", "no option data.columns: columns belong to a source. Write '--data.sources="),
        ("unrecognized arguments: simcse/sup-bert-base.yaml", "is no option. Did you mean --config simcse/sup-bert-base.yaml?"),
        ("unrecognized arguments: gcse/", "gcse/ is no option. Did you mean --config gcse/?"),
        ("the following arguments are required: model.encoder, data.sources",
         "expected model.encoder, data.sources to be set. Give --config RECIPE, or set what is missing; there are recipes of angle,"),
        ("the following arguments are required: a", "recipes of angle, autoregembed"),
        ("Group 'data' does not accept option 'batchsize'", "no option data.batchsize. Did you mean data.batch_size?"),
        ("Option 'rundir' is not accepted", "there is no option rundir. Did you mean run_dir?"),
        (
            "Problem with given class_path 'inbatch.losses.contrastive.infonce.InfoNCE':\n  Option 'tmp' is not accepted",
            "inbatch.losses.contrastive.infonce.InfoNCE has no option tmp. It has temperature,",
        ),
        (
            "Problem with given class_path 'inbatch.models.adapters.lora.Lora':\n  Option 'r' is not accepted",
            "inbatch.models.adapters.lora.Lora has no option r. Did you mean rank?",
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


def test_a_score_is_asked_for_as_a_run_takes_it():
    retrieval, other = {"init_args": {"positive_score": None}}, {"init_args": {"data_dir": None}}
    said = str(in_a_run(UsageError("Give --positive-score 4."), {"dev": retrieval, "b": other}))
    assert said == "Give --evaluators.dev.init_args.positive_score 4."


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
