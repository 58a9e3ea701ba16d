from __future__ import annotations

import copy
import json

import pytest
import tokenizers
import torch

from inbatch.data.batches.collate import Collate, lengths_by_side
from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.text.filling import cut
from inbatch.text.ids import text_id
from inbatch.text.tokens import tokenize
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


EOL = 'This sentence : "{text}" means in one word:"'


def joined_at(tokenizer, *pairs: str):
    """Return a tokenizer that makes one token of each pair of bytes (Ġ is a blank)."""
    merging = copy.deepcopy(tokenizer)
    state = json.loads(merging.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for pair in pairs:
        vocabulary[pair] = len(vocabulary)
    state["model"]["merges"] = [list(pair) for pair in pairs]
    merging._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    assert all(len(merging(pair.replace("Ġ", " "), add_special_tokens=False)["input_ids"]) == 1 for pair in pairs)
    return merging


def as_released(tokenizer, text: str, length: int) -> list[int]:
    """Cut, decode, fill, tokenize the whole."""
    kept = tokenizer(text, add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
    return tokenizer(EOL.replace("{text}", tokenizer.decode(kept)))["input_ids"]


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (['."'], "A text of 33 byte tokens, not 32."),  # behind the text
        (['""'], '"No", she said, and went away'),  # in front of it
        ([',"'], "A text of 33 tokens, at last cut,"),
        (["Ġa", '!"'], "a dog and a cat and a bird!"),
    ],
)
def test_a_text_is_cut_before_its_template_merges_with_it(pairs, text):
    tokenizer = joined_at(TinyRandom("opt").tokenizer, *pairs)
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"]) - 1
    prompts, lengths = {"query": EOL, "document": EOL}, {"query": length, "document": length}
    found = {
        first: Collate(tokenizer, prompts, lengths, one_string=True, cut_first=first).side("query", [text])
        for first in (False, True)
    }
    expected = as_released(tokenizer, text, length)
    assert expected == tokenizer(EOL.replace("{text}", text[:-1]))["input_ids"]
    assert found[True].input_ids.tolist() == [expected]
    # The whole text with the merged token is as long template and what may be kept.
    assert found[False].input_ids.tolist() == [tokenizer(EOL.replace("{text}", text))["input_ids"]]


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_texts_that_are_cut_first_stand_in_their_template_as_released(kind):
    tokenizer = joined_at(TinyRandom(kind).tokenizer, '."', "Ġa", "he")
    texts = [
        "short.",
        "the head of a text that is far too long to stay",
        "漢字 and 🙂 are cut inside of a character",
        "x",
    ]
    prompts, lengths = {"query": EOL, "document": EOL}, {"query": 9, "document": 14}
    collate = Collate(tokenizer, prompts, lengths, one_string=True, cut_first=True)
    for side in ("query", "document"):
        batch = collate.side(side, texts)
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask)]
        assert rows == [as_released(tokenizer, text, lengths[side]) for text in texts]


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("I do n't know , he said .", "I don't know, he said."),
        ("it 's what they 've said ! Is it ?", "it's what they've said! Is it?"),
        ("  two  blanks\nand a line", "  two  blanks\nand a line"),
        ("", ""),
    ],
)
def test_a_decoded_text_has_lost_the_blanks_that_decoding_took_out(tokenizer, text, decoded):
    opt = TinyRandom("opt").tokenizer
    assert cut(opt, [text], 64) == [decoded]
    assert cut(opt, [text], 3) == [text[:3]]
