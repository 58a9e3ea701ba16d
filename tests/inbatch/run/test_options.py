"""The options of `inbatch fit` are its classes' signatures; help and the resolved configuration end with exit code 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from inbatch.run.options import FitCLI
from inbatch.run_folder import identity

EVALUATED = ("--evaluators.pair.class_path=fit_parts.Similarity", "--evaluate_every=4", "--evaluate_first=true")


def test_the_seed_reaches_model_and_data(run_folder: Path):
    cli = FitCLI(["--config", "tiny.yaml", "--seed_everything=5"])
    assert (cli.config.model.seed, cli.config.data.seed) == (5, 5)
    assert identity(yaml.safe_load(cli.dump()))["seed_everything"] == 5


def test_print_config_and_help_exit_with_0(fit: Callable[..., Any], command: Callable[..., Any], run_folder: Path):
    printed = fit("--print_config")
    assert printed.code == 0
    assert yaml.safe_load(printed.out)["model"]["objective"]["init_args"]["learn_temperature"] is True
    shown = command("fit", "--help")
    assert shown.code == 0
    assert "--model.chunk_tokens" in shown.out
    assert "inbatch fit --config own/pairs.yaml" in shown.out
    assert not (run_folder / "runs").exists()


def test_without_any_configuration_one_sentence_says_what_is_missing(command: Callable[..., Any]):
    outcome = command("fit")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
