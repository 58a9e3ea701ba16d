"""The parser knows each objective by its name, help lists them, and a wrong name is answered with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inbatch import losses
from inbatch.losses.base import Objective
from inbatch.run.registry import asks_for_list, list_objectives, objectives, wrong_objective


def test_every_objective_of_the_package_is_found():
    known = objectives()
    found, waiting = set(), [Objective]
    while waiting:
        waiting += (below := waiting.pop().__subclasses__())
        found |= {
            thing
            for thing in below
            if thing.__module__.startswith("inbatch.losses.") and thing.__module__ in sys.modules
        }
    assert set(known.values()) == found
    assert all(known[name].__name__ == name for name in known)


def test_a_file_that_is_added_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = "from inbatch.losses.graded.angle import Angle\nclass Added(Angle):\n    pass\n"
    (tmp_path / "added.py").write_text(lines)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    assert objectives()["Added"].__module__ == "inbatch.losses.added"
    monkeypatch.delitem(sys.modules, "inbatch.losses.added")


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
            "there is no objective MultipleNegativesRankingLoss. There are Angle, CoSENT,",
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
