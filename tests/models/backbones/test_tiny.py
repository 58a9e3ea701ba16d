"""The in-memory tokenizers and configurations of tiny backbones."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.errors import UsageError
from inbatch.models.backbones.tiny import Kind, tiny_config, tiny_tokenizer

KINDS = get_args(Kind)
TOKENIZERS = {kind: tiny_tokenizer(kind, 64, "right") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_one_token_a_byte(kind, text):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer(text)["input_ids"]
    if not any(special in text for special in tokenizer.all_special_tokens):
        around = tokenizer("")["input_ids"]
        assert len(ids) == len(text.encode()) + len(around)
        assert ids.count(tokenizer.unk_token_id) == around.count(tokenizer.unk_token_id)
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_fits_the_tokenizer(kind):
    tokenizer = TOKENIZERS[kind]
    config = tiny_config(kind, tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64)
    assert config.vocab_size == len(tokenizer)
    assert config.pad_token_id == tokenizer.pad_token_id
    assert ("token_type_ids" in tokenizer("x")) == (kind == "bert")


def test_mask_tokens():
    assert TOKENIZERS["bert"].mask_token == "[MASK]"
    assert TOKENIZERS["roberta"].mask_token == "<mask>"
    assert TOKENIZERS["llama"].mask_token is None


def test_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="gpt"):
        tiny_tokenizer("gpt", 64, "right")  # type: ignore[arg-type]
