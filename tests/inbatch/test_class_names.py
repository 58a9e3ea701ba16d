from __future__ import annotations

import doctest
import sys

import pytest

from inbatch import class_names
from inbatch.class_names import classes, dotted, expanded, know, near, short, shortened
from inbatch.errors import UsageError

INFONCE = "inbatch.losses.contrastive.infonce.InfoNCE"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("InfoNCE", INFONCE),
        (INFONCE, INFONCE),
        ("Sts", "inbatch.experiments.evaluation.sts.Sts"),
        ("torch.optim.AdamW", "torch.optim.AdamW"),
        ("my.module.InfoNCE", "my.module.InfoNCE"),
        ("inbatch.losses.InfoNCE", "inbatch.losses.InfoNCE"),  # a public name of a package
        ("EMAWeightAveraging", "EMAWeightAveraging"),  # left to the parser, which knows Lightning's
        ("inbatch.no.Such", "inbatch.no.Such"),
    ],
)
def test_a_name_means_the_class_that_has_it(name: str, path: str):
    assert dotted(name) == path


def test_a_path_from_before_a_move_is_answered_with_where_the_class_is():
    with pytest.raises(UsageError) as error:
        dotted("inbatch.losses.infonce.InfoNCE")
    assert (
        str(error.value)
        == f"there is no class inbatch.losses.infonce.InfoNCE: it is {INFONCE} now. Write class_path: InfoNCE."
    )


def test_a_name_of_two_classes_is_refused_with_both(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(class_names, "classes", lambda: {"Two": ["inbatch.a.Two", "inbatch.b.Two"]})
    with pytest.raises(UsageError, match=r"two classes are called Two: inbatch\.a\.Two and inbatch\.b\.Two\. Write"):
        dotted("Two")
    assert dotted("inbatch.b.Two") == "inbatch.b.Two"
    assert short("inbatch.b.Two") == "inbatch.b.Two"


def test_settings_are_expanded_and_shortened():
    spelled = {
        "model": {"objective": {"class_path": "InfoNCE", "init_args": {"terms": [{"class_path": "Sts"}], "t": 1}}}
    }
    long = expanded(spelled)
    assert long["model"]["objective"]["class_path"] == INFONCE
    assert long["model"]["objective"]["init_args"]["terms"] == [
        {"class_path": "inbatch.experiments.evaluation.sts.Sts"}
    ]
    assert shortened(long) == spelled
    # Layouts of before and of after are the same configuration.
    assert shortened({"class_path": "inbatch.losses.infonce.InfoNCE"}) == {"class_path": "InfoNCE"}


def test_a_class_that_stands_by_its_name_alone_is_imported():
    module = "inbatch.models.training.adamw_uncorrected_eps"
    sys.modules.pop(module, None)
    know("no class")
    know("AdamWUncorrectedEps")
    assert module in sys.modules


def test_names_are_found_without_importing():
    assert classes()["Decay"] == ["inbatch.losses.combine.weighted.Decay"]
    assert not [name for name in classes() if name.startswith("_")]
    assert near("InfoNEC") == ". Did you mean InfoNCE?"


def test_examples():
    assert doctest.testmod(class_names).failed == 0
