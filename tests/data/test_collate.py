from __future__ import annotations

import pytest
import torch

from inbatch.data.collate import Collate, lengths_by_side
from inbatch.data.views import text_id
from inbatch.errors import UsageError
from inbatch.models.backbones import TinyRandom
from inbatch.tokens import tokenize
from inbatch.views import Views


@pytest.fixture(scope="module")
def tokenizer():
    return TinyRandom("bert").tokenizer


def test_each_side_has_its_prompt_and_its_length(tokenizer):
    collate = Collate(tokenizer, {"query": "query: ", "document": "passage: "}, {"query": 12, "document": 15})
    views = Views(["a b c d e f g h i j"], ["k l m n o p q r s t"], (["u v w x y z a b c d"],))
    tokens = collate(views)
    for batch, prompt, length, texts in zip(tokens, ["query: ", "passage: ", "passage: "], [12, 15, 15], views):
        assert torch.equal(batch.input_ids, tokenize(tokenizer, texts, length, prompt).input_ids)


def test_ids_and_scores_pass_through(tokenizer):
    ids = Views(torch.tensor([1]), torch.tensor([2]))
    views = Views(["a"], ["b"], score=torch.tensor([0.5]), ids=ids)
    tokens = Collate(tokenizer, {}, {"query": 8, "document": 8})(views)
    assert tokens.ids is ids
    # No tensor, which a precision of whole models would round, until the batch goes to its device.
    assert not isinstance(tokens.score, torch.Tensor)
    assert tokens.to("cpu").score.equal(views.score)


def test_the_same_texts_are_tokenized_once_if_the_sides_agree(tokenizer):
    texts = ["a b", "c d"]
    tokens = Collate(tokenizer, {"query": "", "document": ""}, {"query": 8, "document": 8})(Views(texts, texts))
    assert tokens.anchor is tokens.positive
    tokens = Collate(tokenizer, {"query": "q ", "document": ""}, {"query": 8, "document": 8})(Views(texts, texts))
    assert not torch.equal(tokens.anchor.input_ids, tokens.positive.input_ids)


def test_documents_may_have_a_token_type_of_their_own(tokenizer):
    texts = ["a b", "c"]
    tokens = Collate(tokenizer, {}, {"query": 8, "document": 8}, 1)(Views(texts, texts, (texts,)))
    assert not tokens.anchor.token_type_ids.any()
    for view in (tokens.positive, *tokens.negatives):
        assert torch.equal(view.token_type_ids, view.attention_mask)  # padding has type 0, as a tokenizer pads it
    without = Collate(TinyRandom("roberta").tokenizer, {}, {"query": 8, "document": 8}, 1)(Views(texts, texts))
    assert without.positive.token_type_ids is None


def test_a_text_of_a_hundred_thousand_words_is_cut(tokenizer):
    texts = [" ".join(["word"] * 100_000)]
    tokens = Collate(tokenizer, {}, {"query": 16, "document": 32})(Views(texts, texts))
    assert (tokens.anchor.input_ids.shape, tokens.positive.input_ids.shape) == ((1, 16), (1, 32))


def test_one_length_is_for_both_sides():
    assert lengths_by_side(32) == {"query": 32, "document": 32}
    assert lengths_by_side({"document": 64, "query": 32}) == {"query": 32, "document": 64}


@pytest.mark.parametrize(
    "wrong", [1, 0, {"query": 32}, {"query": 32, "documents": 64}, {"query": 32, "document": None}]
)
def test_other_lengths_are_refused(wrong):
    with pytest.raises(UsageError, match="Set data.max_length"):
        lengths_by_side(wrong)


def test_instructions_stand_in_the_prompts_that_have_their_place(tokenizer):
    prompts = {"query": "Do: {instruction}\nFor: ", "document": ""}
    views = Views(["a", "bb"], ["c", "d"], instructions=["find", "name it"])
    tokens = Collate(tokenizer, prompts, {"query": 40, "document": 40}, spans=True)(views)
    strings = ["Do: find\nFor: a", "Do: name it\nFor: bb"]
    assert torch.equal(tokens.anchor.input_ids, tokenize(tokenizer, strings).input_ids)
    for row, text in enumerate(views.anchor):
        start, stop = tokens.anchor.slots["text"][row].tolist()
        assert tokenizer.decode(tokens.anchor.input_ids[row, start:stop]).replace(" ", "") == text
    assert torch.equal(tokens.positive.input_ids, tokenize(tokenizer, views.positive).input_ids)
    assert tokens.instructions.tolist() == [text_id("find"), text_id("name it")]
    with pytest.raises(UsageError, match="its place"):
        Collate(tokenizer, prompts, {"query": 40, "document": 40})(Views(["a"], ["b"]))
