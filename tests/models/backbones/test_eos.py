"""What ends a text is set in the tokenizer, holds under truncation, and is there again in what is saved."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from inbatch.errors import UsageError
from inbatch.models.backbones.eos import ends_with, set_eos
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.backbones.tiny import ENCODERS, Kind, tiny_tokenizer
from inbatch.text.tokens import tokenize

FAMILIES = [kind for kind in Kind.__args__ if kind not in ENCODERS]  # type: ignore[attr-defined]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_text_ends_as_asked_here_and_after_saving(kind, side, tmp_path):
    plain = TinyRandom(kind, padding_side=side, eos="none").tokenizer
    ended = TinyRandom(kind, padding_side=side, eos="append").tokenizer
    texts = ["a", "some more text"]
    before, after = (tokenize(t, texts, 10) for t in (plain, ended))
    eos = ended.eos_token_id
    for row in range(2):
        ids = after.input_ids[row][after.attention_mask[row].bool()].tolist()
        without = before.input_ids[row][before.attention_mask[row].bool()].tolist()
        assert ids == [*without[:9], eos], "truncation keeps the token"
        assert without[-1] != eos
    assert (ends_with(ended), ends_with(plain)) == (ended.eos_token, None)
    for name, tokenizer in (("plain", plain), ("ended", ended)):
        tokenizer.save_pretrained(tmp_path / name)
        loaded = AutoTokenizer.from_pretrained(tmp_path / name)
        assert [loaded(text)["input_ids"] for text in texts] == [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": True, "add_eos_token": False}])
def test_a_saved_tokenizer_whose_configuration_names_the_rule_keeps_ours(flags, tmp_path):
    tokenizer = tiny_tokenizer("mistral", 64, "right")
    tokenizer.init_kwargs.update(flags)
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoTokenizer.from_pretrained(tmp_path / "base")
    set_eos(base, "append")
    base.save_pretrained(tmp_path / "ours")
    again = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert again("hello")["input_ids"] == [*tokenizer("hello")["input_ids"], tokenizer.eos_token_id]
    set_eos(again, "none")
    assert again("hello")["input_ids"] == tokenizer("hello")["input_ids"]


def test_nothing_changes_where_nothing_is_asked_or_needed():
    tokenizer = tiny_tokenizer("llama", 64, "right")
    rule = tokenizer.backend_tokenizer.post_processor
    set_eos(tokenizer, "as_is")
    set_eos(tokenizer, "append")
    assert str(tokenizer.backend_tokenizer.post_processor) == str(rule)


def test_refusals():
    tokenizer = tiny_tokenizer("phi", 64, "right")
    with pytest.raises(UsageError, match="eos to be .*append.* or none; got 'yes'"):
        set_eos(tokenizer, "yes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="an end-of-text token; this one has none"):
        set_eos(tiny_tokenizer("bert", 64, "right"), "append")

    class Slow:
        is_fast, eos_token_id, convert_ids_to_tokens = False, 3, staticmethod(str)

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [7]}

    with pytest.raises(UsageError, match="Slow has rules of its own"):
        set_eos(Slow(), "append")
