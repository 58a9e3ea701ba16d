"""The model card: valid front matter, stated facts, and named gaps."""

from __future__ import annotations

import pytest
import yaml

from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export.card import model_card, package_versions
from inbatch.models.heads.dense import Dense, MLMTransform
from inbatch.models.heads.template_bias import TemplateBias


@pytest.fixture(scope="module")
def tiny():
    return Encoder(TinyRandom("llama", bidirectional=True), head=Dense(32, 8), prompts={"query": "a | b\n"})


def front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter(tiny, minilm):
    card = model_card(Encoder(Pretrained(minilm, layers=1, lora=Lora())), {}, None)
    fields = front_matter(card)
    assert fields["library_name"] == "sentence-transformers"
    assert fields["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "SentenceTransformer(" in card
    assert "LoRA" in card
    other = front_matter(model_card(tiny, {}, "it has no such pooling"))
    assert "library_name" not in other
    assert "base_model" not in other


def test_parts_of_a_method_are_told(tiny):
    prompts = {"query": "{text} {mask}", "document": "{mask}: {text}"}
    head, correction = MLMTransform(32), TemplateBias(template_bias_at_test=True)
    encoder = Encoder(
        TinyRandom(prefix=Prefix(3)), "mask", head=head, prompts=prompts, default_prompt="query", correction=correction
    )
    card = model_card(encoder, {}, "it has no such pooling")
    for line in (
        "| head | MLMTransform 32 → 32 |",
        "| prefix | 3 keys and values before every layer, in `prefix.safetensors` |",
        "| prompt by default | query |",
        "| template bias | subtracted |",
    ):
        assert line in card
    assert not any(word in model_card(tiny, {}, None) for word in ("| prefix", "by default", "template bias"))


def test_obstacle_is_told(tiny):
    card = model_card(tiny, {}, "it has no such pooling")
    assert "it has no such pooling" in card
    assert "SentenceTransformer(" not in card


def test_facts_and_gaps(tiny):
    facts = {
        "data": ["environment", "mine.csv"],
        "negatives": 2047,
        "scores": {"mrr": 0.7523456789, "by": {"set": 1.0}},
        "versions": {"torch": "2"},
        "seed": 3,
    }
    card = model_card(tiny, facts, None)
    for line in (
        "| data | environment, mine.csv |",
        "| negatives | 2047 |",
        "| seed | 3 |",
        "| mrr | 0.752346 |",
        "| by | set 1 |",
    ):
        assert line in card
    assert "Not recorded: loss, commit." in card
    assert "| torch | 2 |" in card
    assert "Not recorded: data, loss, negatives, scores, commit." in model_card(tiny, {}, None)


def test_cells_stay_in_their_table(tiny):
    card = model_card(tiny, {}, None)
    row = next(line for line in card.splitlines() if line.startswith("| prompts"))
    assert row == r"| prompts | query: `a \| b ` |"
    assert "bidirectional" in card
    assert "Dense 32 → 8" in card


def test_versions():
    assert {"inbatch", "torch", "transformers"} <= package_versions().keys()


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr("inbatch.models.export.card._PACKAGES", ("torch", "no-such-package"))
    assert package_versions().keys() == {"torch"}
