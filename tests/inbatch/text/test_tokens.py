"""One tokenization for training, evaluation and use: equal to the tokenizer's own, and strict about what it cannot encode."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from inbatch.errors import UsageError
from inbatch.text.tokens import tokenize

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query:", "a", "b", "c"]


def make_tokenizer(special: bool = True, side: str = "right") -> PreTrainedTokenizerFast:
    """A tokenizer of single words, with or without [CLS] and [SEP]."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        core.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", padding_side=side, model_max_length=50
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_equals_the_tokenizer_itself(side: str):
    tokenizer = make_tokenizer(side=side)
    texts = ["a b c a b", "a", "b zzz"]
    ours = tokenize(tokenizer, texts, max_length=5, prompt="query: ")
    theirs = tokenizer(["query: " + t for t in texts], padding=True, truncation=True, max_length=5, return_tensors="pt")
    assert torch.equal(ours.input_ids, theirs["input_ids"])
    assert torch.equal(ours.attention_mask, theirs["attention_mask"])
    assert ours.input_ids.dtype == ours.attention_mask.dtype == torch.int64
    assert ours.lengths.tolist() == [5, 4, 5]


def test_prompt_gets_no_space_of_its_own():
    tokenizer = make_tokenizer()
    assert tokenize(tokenizer, ["a"], prompt="query:").input_ids.tolist() == [[2, 1, 3]]
    assert tokenize(tokenizer, ["a"], prompt="query: ").input_ids.tolist() == [[2, 4, 5, 3]]


def test_an_empty_text_is_a_blank_one():
    assert tokenize(make_tokenizer(), [""]).input_ids.tolist() == [[2, 3]]


def test_no_limit_given_keeps_what_the_tokenizer_allows():
    assert tokenize(make_tokenizer(), ["a " * 100_000]).input_ids.shape == (1, 50)


@pytest.mark.parametrize("texts", [["a", ""], [" "]])
def test_refuses_a_text_without_tokens(texts: list[str]):
    with pytest.raises(UsageError, match=f"text {len(texts) - 1} .* has none.*Remove blank texts"):
        tokenize(make_tokenizer(special=False), texts)


def test_refuses_what_is_no_text():
    with pytest.raises(UsageError, match="item 1 is float: 'nan'"):
        tokenize(make_tokenizer(), ["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="at least one text"):
        tokenize(make_tokenizer(), [])


@pytest.mark.parametrize("max_length", [-1, 0, 1, 2])
def test_refuses_a_length_without_room_for_the_text(max_length: int):
    with pytest.raises(UsageError, match=f"at least 3 .*got {max_length}"):
        tokenize(make_tokenizer(), ["a"], max_length)
    assert tokenize(make_tokenizer(), ["a b"], 3).lengths.tolist() == [3]


@pytest.mark.parametrize("text", ["a \ud800 b", "\udcff", "\ude00\ud83d"])
def test_half_a_surrogate_pair_is_no_crash_in_texts_and_prompts(text: str):
    from inbatch.models.backbones.pretrained import TinyRandom
    from inbatch.text.texts import mended

    tokenizer = TinyRandom("bert").tokenizer
    for prompt in ("", f"{text}: ", [f"{text}: "]):
        found = tokenize(tokenizer, [text], prompt=prompt)
        whole = tokenize(
            tokenizer, [mended(text)], prompt=mended(prompt) if isinstance(prompt, str) else [mended(prompt[0])]
        )
        assert torch.equal(found.input_ids, whole.input_ids)
