"""The parser knows each objective by its name, help lists them, and a wrong name is answered with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inbatch.losses.base import Objective
from inbatch.run.registry import asks_for_list, list_objectives, objectives, wrong_objective

LOSSES = Path(__file__).parents[3] / "losses"


def test_every_objective_that_a_file_defines_is_found():
    known = objectives()
    assert {"InfoNCE", "WeightedSum", "DistributionAlignment"} <= known.keys()
    assert "Objective" not in known
    assert all(issubclass(thing, Objective) for thing in known.values())
    defined = "".join(path.read_text("utf8") for path in LOSSES.rglob("*.py"))
    assert all(f"class {name}(" in defined for name in known)
    assert len(known) == defined.count("(Objective):") + defined.count("(InfoNCE):") + defined.count("(CoSENT):")


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (["--model.objective.help"], True),
        (["--model.objective.help", "--config", "a.yaml"], True),
        (["--model.objective.help", "InfoNCE"], False),
        (["--model.objective.help=InfoNCE"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_help_without_a_name_asks_for_the_list(arguments: list[str], asks: bool):
    assert asks_for_list(arguments) == asks


def test_the_list_says_what_each_does():
    first, *lines, last = list_objectives().splitlines()
    assert first == "objectives:"
    assert [line.split()[0] for line in lines] == list(objectives())
    assert all(len(line.split()) > 3 and len(line) < 130 for line in lines)
    assert "--model.objective.help=InfoNCE" in last


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        (
            'Parser key "model.objective":\n  Expected a dot import path string: InfoNC',
            "there is no objective InfoNC. Did you mean InfoNCE? Set --model.objective.",
        ),
        (
            'Parser key "model.objective":\n  Expected a dot import path string: MultipleNegativesRankingLoss',
            "there is no objective MultipleNegativesRankingLoss. There are Angle, CoSENT, DCLR,",
        ),
        (
            "Import path torch.nn.L1Loss does not correspond to a subclass of Objective",
            "torch.nn.L1Loss does not correspond to a subclass of Objective. There are Angle,",
        ),
    ],
)
def test_a_wrong_objective_is_answered_with_those_there_are(complaint: str, sentence: str):
    assert sentence in str(wrong_objective(argparse.ArgumentError(None, complaint)))


def test_other_complaints_are_left_alone():
    assert wrong_objective(argparse.ArgumentError(None, "unrecognized arguments: --a")) is None
    assert (
        wrong_objective(argparse.ArgumentError(None, 'key "optimizer": Expected a dot import path string: A')) is None
    )


def test_the_command_lists_them_and_knows_them_by_name(fit: Callable[..., Any], command: Callable[..., Any]):
    listed = command("fit", "--model.objective.help")
    assert listed.code == 0
    assert listed.out.startswith("objectives:\n  Angle ")
    resolved = fit("--model.objective=OwnNegatives", "--print_config")
    assert resolved.code == 0
    assert "class_path: OwnNegatives" in resolved.out
