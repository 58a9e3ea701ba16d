"""What checkpoints are judged by while training, where that is another encoder than the one at test; the export is that at test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from modules import module_of

from inbatch.errors import UsageError
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.models.training.dev import Dev
from inbatch.text.tokens import tokenize

PROMPTS = {"query": "{text} is {mask}", "document": "{mask}: {text}"}
# Of supervised PromptBERT with RoBERTa.
QUOTED = {side: "This sentence : ' {text} ' means{mask}." for side in ("query", "document")}


def prompted(**options: Any) -> Encoder:
    backbone = TinyRandom(num_layers=1, dropout=0.0)
    return Encoder(backbone, "mask", prompts=PROMPTS, correction=TemplateBias(**options), default_prompt="query")


def quoted(**options: Any) -> Encoder:
    backbone = TinyRandom("roberta", num_layers=1, dropout=0.0)
    return Encoder(backbone, "mask", prompts=QUOTED, default_prompt="query", **options)


def tokens_of(encoder: Encoder, *texts: str) -> list[list[int]]:
    """Return the token ids that the network of an encoder is given for texts, without padding, the longest text first."""
    seen: list[list[int]] = []

    def note(backbone: Any, inputs: Any) -> None:
        seen.extend(row[kept.bool()].tolist() for row, kept in zip(inputs[0].input_ids, inputs[0].attention_mask))

    hook = encoder.backbone.register_forward_pre_hook(note)
    encoder.encode(texts)
    hook.remove()
    return seen


def test_a_projector_may_judge_checkpoints_and_never_becomes_the_encoders():
    encoder = Encoder(TinyRandom(num_layers=1, dropout=0.0), normalize=False)
    module = module_of(encoder, InfoNCE(projector=Dense(32)), projector_at_dev=True)
    texts = ["one text", "another"]
    plain = encoder.encode(texts)
    with module.at_dev() as judged:
        torch.testing.assert_close(judged.encode(texts), module.objective.projector(plain))
    with pytest.raises(ZeroDivisionError), module.at_dev():
        _ = 1 / 0
    assert encoder.head is None
    assert torch.equal(encoder.encode(texts), plain)


@pytest.mark.parametrize("at_test", [False, True])
@pytest.mark.parametrize("at_dev", [False, True])
def test_a_template_bias_may_be_subtracted_for_the_choice_of_checkpoints_alone(at_test: bool, at_dev: bool):
    module = module_of(prompted(template_bias_at_test=at_test), template_bias_at_dev=at_dev)
    reference = prompted(template_bias_at_test=at_test or at_dev)
    texts = ["one text", "another"]
    with module.at_dev() as encoder:
        assert torch.equal(encoder.encode(texts), reference.encode(texts))
    assert torch.equal(module.encoder.encode(texts), prompted(template_bias_at_test=at_test).encode(texts))


@pytest.mark.parametrize("text", ["a dog runs", "does it?", "漢字 and 🙂", "a"])
def test_texts_may_be_tokenized_as_in_training_for_the_choice_of_checkpoints_alone(text: str, tmp_path):
    encoder = quoted(one_string_at_test=True, period_at_test=True)
    module = module_of(encoder, training_tokens_at_dev=True)
    tokenizer = encoder.tokenizer
    left, inside, right = (
        tokenizer(part, add_special_tokens=False)["input_ids"]
        for part in ("This sentence : '", text, " ' means<mask>.")
    )
    by_itself = [tokenizer.bos_token_id, *left, *inside, *right, tokenizer.eos_token_id]
    ended = text if text.endswith("?") else f"{text}."
    as_one = tokenizer(f"This sentence : ' {ended} ' means<mask>.")["input_ids"]
    assert by_itself != as_one
    with module.at_dev() as judged:
        assert tokens_of(judged, text) == [by_itself]
    assert tokenize(tokenizer, [text], 512, QUOTED["query"]).input_ids.tolist() == [by_itself]  # as training does
    assert tokens_of(encoder, text) == [as_one]
    encoder.save_pretrained(tmp_path / "export")
    assert tokens_of(Encoder.from_pretrained(tmp_path / "export"), text) == [as_one]


def test_what_training_fills_as_one_string_is_one_at_dev_too():
    encoder = quoted(one_string=True, period_at_test=True)
    with module_of(encoder, training_tokens_at_dev=True).at_dev() as judged:
        assert tokens_of(judged, "a dog") == [encoder.tokenizer("This sentence : ' a dog ' means<mask>.")["input_ids"]]


@pytest.mark.parametrize("length", [4, 7])
def test_texts_may_be_cut_for_the_choice_of_checkpoints_alone(length: int, tmp_path):
    encoder = Encoder(TinyRandom(num_layers=1, dropout=0.0))
    module = module_of(encoder, max_length_at_dev=length)
    long, short = "a text of many bytes", "ab"
    whole, brief = (encoder.tokenizer(text)["input_ids"] for text in (long, short))
    with module.at_dev() as judged:
        assert tokens_of(judged, long, short) == [[*whole[: length - 1], whole[-1]], brief]
    assert tokens_of(encoder, long) == [whole]
    encoder.save_pretrained(tmp_path / "export")
    assert tokens_of(Encoder.from_pretrained(tmp_path / "export"), long) == [whole]


def test_a_score_at_dev_is_one_of_the_export_only_where_nothing_differs():
    assert not Dev().differs
    assert all(Dev(**{name: True}).differs for name in ("projector", "template_bias", "training_tokens"))
    assert Dev(max_length=64).differs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projector_at_dev": True}, "an objective with a projector and an encoder without a head"),
        ({"template_bias_at_dev": True}, "an encoder with a correction; it has none"),
        ({"max_length_at_dev": 2}, r"max_length in \[3, .*got 2. Set model.max_length_at_dev"),
        ({"max_length_at_dev": 10_000}, "got 10000. Set model.max_length_at_dev"),
    ],
)
def test_switches_without_what_they_switch_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        module_of(**options)
