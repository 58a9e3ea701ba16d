"""What the guides list is what the code has: objectives with what they refuse, poolings, exports, exit codes."""

import re

import pytest
from pages import read

from inbatch import cli, losses
from inbatch.callbacks.signals import EXIT_CODES
from inbatch.cli import VERBS
from inbatch.errors import InbatchError, MissingError, TrainingError, UsageError
from inbatch.losses import BatchFacts
from inbatch.models import Encoder, TinyRandom
from inbatch.models.export.sentence_transformers import EXPRESSIBLE, obstacle_of
from inbatch.models.heads.pooling import POOLINGS, States
from inbatch.models.networks.decoder import TinyDecoder
from inbatch.models.networks.discriminator import Discriminator
from inbatch.models.networks.masked_lm import TinyGenerator, TinyHead
from inbatch.models.networks.reference import Reference
from inbatch.run.registry import objectives

OBJECTIVES = read("docs/guide/objectives.md")
BACKBONES = read("docs/guide/backbones.md")
COMMANDS = read("docs/guide/commands.md")
CLASSES = objectives()


def names_in(line):
    return {name for name in re.findall(r"`(\w+)`", line) if name in CLASSES}


def test_every_objective_is_in_the_table():
    """But those that nobody has listed in the package yet: an objective is added by three files, and described when it is merged."""
    rows = [name for row in re.findall(r"^\| (`[^|]+`) \|", OBJECTIVES, re.MULTILINE) for name in names_in(row)]
    assert len(set(rows)) == len(rows)
    assert CLASSES.keys() & set(losses.__all__) <= set(rows)


def test_what_matryoshka_and_sums_do_not_take():
    (line,) = re.findall(r"^- `Matryoshka` takes no objective .+: (.+)$", OBJECTIVES, re.MULTILINE)
    assert names_in(line) == {name for name, found in CLASSES.items() if not found.takes_prefixes}
    (line,) = re.findall(
        r"^- The common projection head of `WeightedSum` cannot be combined with (.+)\.$", OBJECTIVES, re.MULTILINE
    )
    assert names_in(line) == {name for name, found in CLASSES.items() if not found.takes_projected}


@pytest.fixture(scope="module")
def bert_reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "model"
    Encoder(TinyRandom("bert", num_layers=1)).eval().save_pretrained(folder)
    return str(folder)


MADE = {
    "MaskedTokens": lambda reference: losses.MaskedTokens(TinyHead("bert")),
    "ReplacedTokens": lambda reference: losses.ReplacedTokens(TinyGenerator("bert"), Discriminator(TinyRandom("bert"))),
    "NextTokens": lambda reference: losses.NextTokens(),
    "InformationCompression": lambda reference: losses.InformationCompression(TinyDecoder("llama")),
    "DistributionAlignment": lambda reference: losses.DistributionAlignment(TinyDecoder("llama"), "scores"),
    "GaussianDecay": lambda reference: losses.GaussianDecay(Reference(reference)),
    "DCLR": lambda reference: losses.DCLR(Reference(reference)),
    "Guided": lambda reference: losses.Guided(Reference(reference)),
    "Matryoshka": lambda reference: losses.Matryoshka(losses.InfoNCE(), dims=[16, 64]),
}
TAKES_BERT = ("MaskedTokens", "ReplacedTokens", "GaussianDecay", "DCLR", "Guided")


@pytest.mark.parametrize("name", MADE)
def test_encoders_that_the_table_says_are_refused(name, bert_reference):
    kind = "llama" if name in TAKES_BERT else "bert"
    refused = Encoder(TinyRandom(kind, num_layers=1), pooling="mean")
    with pytest.raises(UsageError):
        MADE[name](bert_reference).attach(refused)
    if name in TAKES_BERT:
        MADE[name](bert_reference).attach(Encoder(TinyRandom("bert", num_layers=1)))


def test_a_queue_refuses_half_precision():
    objective = losses.MomentumQueue(8)
    objective.attach(Encoder(TinyRandom("bert", num_layers=1, dtype="bfloat16")))
    with pytest.raises(UsageError, match="float32 or float64"):
        objective.check(BatchFacts(rows=8, negatives=0, scored=False))


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("name", ["InfoNCE", "EnergyHinge", "OwnNegatives", "CoSENT", "Angle"])
def test_the_others_refuse_no_encoder(name, kind):
    (row,) = re.findall(rf"^\| [^|]*`{name}`[^|]*\|.*$", OBJECTIVES, re.MULTILINE)
    assert row.split("|")[4].strip() == "none"
    CLASSES[name]().attach(Encoder(TinyRandom(kind, num_layers=1), pooling="mean"))


def test_poolings_and_which_of_them_are_exported():
    (line,) = re.findall(r"^Poolings are (.+)\.$", BACKBONES, re.MULTILINE)
    assert re.findall(r"`(\w+)`", line) == list(POOLINGS)
    (line,) = re.findall(r"^- the pooling is (.+);$", BACKBONES, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", line)) == set(EXPRESSIBLE)


class Doubled(TinyRandom):
    """A network whose states transformers does not compute from what is saved."""

    def forward(self, tokens, layer=None):
        states = super().forward(tokens, layer)
        return States(2 * states.last + states.last.roll(1, -1), states.other)


def test_a_network_of_transformers_is_exported_and_a_forward_of_ones_own_is_not(tmp_path):
    found = Encoder(TinyRandom("bert", num_layers=1)).eval().save_pretrained(tmp_path / "tiny")
    assert found.obstacle is None
    with pytest.raises(InbatchError, match="the folder was not kept"):
        Encoder(Doubled("bert", num_layers=1)).eval().save_pretrained(tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_full_stop_at_test_is_an_obstacle():
    assert (
        obstacle_of(Encoder(TinyRandom("bert", num_layers=1), period_at_test=True))
        == "it ends no text with a full stop"
    )


def test_every_command_is_explained():
    assert {*re.findall(r"^\| `inbatch (\w+)", COMMANDS, re.MULTILINE)} == VERBS.keys()


def test_exit_codes_are_those_of_the_program():
    for code in ("0 done", "2 wrong", "3 something", "4 training", "75 stopped", "130 interrupted", "1 anything else"):
        assert code in COMMANDS
    screen = " ".join(cli.EXIT_CODES.split())
    for code, word in ((UsageError("").exit_code, "wrong usage"), (MissingError("").exit_code, "something is not there"),
                       (TrainingError("").exit_code, "training cannot"), *((c, "") for c in EXIT_CODES.values())):  # fmt: skip
        assert f"{code} {word}" in screen
        assert f" {code} {word}" in f" {COMMANDS}"
