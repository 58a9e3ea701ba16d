"""Templates: where the text goes, what is cut, and where the mask token ends up."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.filling import fill
from inbatch.text.templates import check_template, instructed, is_template, parse, with_period
from inbatch.text.tokens import tokenize

PROMPT = 'it says "{text}" and {mask}.'


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_text_is_cut_and_the_template_never(kind, side):
    tokenizer = TinyRandom(kind, padding_side=side).tokenizer
    texts = ["abc", "a much longer text"]
    batch = fill(tokenizer, texts, PROMPT, max_length=6)
    for row, text in enumerate(texts):
        ids = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        whole = [*tokenizer("")["input_ids"]]
        middle = [
            *ids_of(tokenizer, 'it says "'),
            *ids_of(tokenizer, text)[:6],
            *ids_of(tokenizer, f'" and {tokenizer.mask_token}.'),
        ]
        assert ids == [whole[0], *middle, whole[-1]]
        assert batch.input_ids[row, batch.slots["mask"][row]] == tokenizer.mask_token_id


def test_a_mask_token_in_the_text_is_not_the_templates():
    encoder = Encoder(TinyRandom("bert"), pooling="mask", prompts={"query": PROMPT})
    texts = [f"who said {encoder.tokenizer.mask_token} here", "nobody"]
    batch = tokenize(encoder.tokenizer, texts, 60, PROMPT)
    assert (batch.input_ids[0] == encoder.tokenizer.mask_token_id).sum() == 2
    assert batch.slots["mask"][0] == len(parse(encoder.tokenizer, PROMPT).left) + len(
        ids_of(encoder.tokenizer, texts[0])
    ) + len(ids_of(encoder.tokenizer, '" and '))
    assert encoder(batch).shape == (2, 32)


def test_the_mask_may_stand_before_the_text():
    tokenizer = TinyRandom("bert").tokenizer
    batch = fill(tokenizer, ["x", "xyz"], "{mask} is {text}", None)
    assert batch.slots["mask"].tolist() == [1, 1]


def test_one_string_equals_the_tokenizers_own_and_long_texts_are_cut_by_themselves():
    tokenizer = TinyRandom("bert", max_length=64).tokenizer
    batch = fill(tokenizer, ["abc", "x"], PROMPT, None, one_string=True)
    assert batch.input_ids[0].tolist() == tokenizer(f'it says "abc" and {tokenizer.mask_token}.')["input_ids"]
    long = fill(tokenizer, ["y" * 500], PROMPT, None, one_string=True)
    assert long.input_ids.shape[1] == 64
    assert long.input_ids[0, long.slots["mask"][0]] == tokenizer.mask_token_id


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("one_string", [False, True])
def test_a_text_does_not_depend_on_those_beside_it(kind, one_string):
    tokenizer = TinyRandom(kind, max_length=64).tokenizer
    prompt = 'This says : " {text} " and means {mask}.'
    texts = ["short", "x" * 200, *("y" * n for n in range(20, 40)), f"a {tokenizer.mask_token} inside"]
    together = fill(tokenizer, texts, prompt, None, one_string)
    assert together.input_ids.shape[1] <= 64
    for row, text in enumerate(texts):
        alone = fill(tokenizer, [text], prompt, None, one_string)
        kept = together.attention_mask[row].bool()
        assert torch.equal(together.input_ids[row][kept], alone.input_ids[0])
        assert together.slots["mask"][row] == alone.slots["mask"][0]
        assert alone.input_ids[0, alone.slots["mask"][0] + 1 :].tolist().count(tokenizer.mask_token_id) == 0


def test_token_types_are_0_where_the_tokenizer_gives_types():
    for kind, has in (("bert", True), ("roberta", False)):
        batch = fill(TinyRandom(kind).tokenizer, ["x", "xyz"], PROMPT, None)
        assert (batch.token_type_ids is not None) == has
        assert not has or torch.equal(batch.token_type_ids, torch.zeros_like(batch.input_ids))


@pytest.mark.parametrize(
    ("text", "ended"), [("a", "a."), ("a.", "a."), ("a?", "a?"), ("a'", "a'"), ('a"', 'a"'), ("a!", "a!.")]
)
def test_a_full_stop_where_there_is_none(text, ended):
    assert with_period(text) == ended


def test_encode_takes_the_default_prompt():
    prompts = {"query": PROMPT, "document": "{text}: {mask}"}
    encoder = Encoder(TinyRandom("bert"), pooling="mask", prompts=prompts, default_prompt="query").eval()
    torch.testing.assert_close(encoder.encode(["x"]), encoder.encode(["x"], prompt_name="query"))
    assert not torch.allclose(encoder.encode(["x"]), encoder.encode(["x"], prompt_name="document"))


def test_a_plain_prompt_is_no_template():
    assert not is_template("query: ")
    check_template("query: ", TinyRandom("bert").tokenizer, "mean")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("it means {mask}.", r"expected the slot \{text\} in the template"),
        ("{text} {mask} {text}", "behind all its copies"),
        ("{text} {mask} {txt}", r"got \{txt\}. Set encoder.prompts"),
        ("{text} means nothing", r"pooling `mask` expects one \{mask\}.*it has 0"),
        ("{mask} {text} {mask}", "it has 2"),
        ("[MASK] {text} {mask}", "it has 2"),
        ('"{sentence}" means in one word:', r"expected only the slots .* got \{sentence\}"),
        ("Instruct: {instructions}\nQuery: ", r"got \{instructions\}"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(prompt, message):
    with pytest.raises(UsageError, match=message):
        Encoder(TinyRandom("bert"), pooling="mask", prompts={"query": prompt})


def test_refusals_that_depend_on_the_tokenizer():
    with pytest.raises(UsageError, match="a tokenizer with a mask token for the template"):
        Encoder(TinyRandom("llama"), pooling="last", prompts={"query": "{text} {mask}"})
    with pytest.raises(UsageError, match="leaves room for a text within 16 tokens"):
        fill(TinyRandom("bert", max_length=16).tokenizer, ["x"], "a" * 20 + "{text}", None)
    encoder = Encoder(TinyRandom(max_length=64, prefix=Prefix(50)), prompts={"query": "a" * 20 + "{text}"})
    with pytest.raises(UsageError, match="leaves room for a text within 14 tokens"):
        encoder.encode(["x"], prompt_name="query")
    with pytest.raises(UsageError, match="default_prompt to be one of document, query; got 'queries'"):
        Encoder(TinyRandom("bert"), default_prompt="queries")


def test_blanks_before_each_copy_are_left_out_and_line_feeds_are_kept():
    tokenizer = TinyRandom("llama").tokenizer
    for prompt, expected in (
        ("Say: {text}, again: {text}", ["Say:", "hello", ", again:", "hello"]),
        ("Passage:\n{text}\nEnd", ["Passage:\n", "hello", "\nEnd"]),
    ):
        ids = fill(tokenizer, ["hello"], prompt, None).input_ids[0].tolist()
        assert ids[1:-1] == [token for part in expected for token in ids_of(tokenizer, part)]


def test_an_instruction_brings_no_places_of_its_own():
    tokenizer = TinyRandom("bert", learned_tokens=1).tokenizer
    prompt = "{instruction} {text} means {mask}."
    assert instructed(prompt, "Find it:", tokenizer) == "Find it: {text} means {mask}."
    for wrong in ("Fill [MASK]", "say {text}", "use <EMBED0>"):
        with pytest.raises(UsageError, match="without slots and special tokens"):
            instructed(prompt, wrong, tokenizer)
    with pytest.raises(UsageError, match="has its place"):
        instructed(prompt, None, tokenizer)
    with pytest.raises(UsageError, match="got '' and the prompt"):
        instructed("{text}", "", tokenizer)
    assert instructed(prompt, "use <EMBED0>", TinyRandom("bert").tokenizer).startswith("use <EMBED0> {text}")


def test_a_text_that_names_a_learned_token_is_a_text():
    backbone = TinyRandom("llama", learned_tokens=2)
    batch = tokenize(backbone.tokenizer, ["see <EMBED0> there"], None, "{text}{learned}")
    learned = backbone.learned_tokens.first
    assert (batch.input_ids >= learned).sum() == 2
    tag = '<EMBED src="a.mp4">'
    plain = TinyRandom("llama").tokenizer
    assert tokenize(plain, [tag]).input_ids[0].tolist() == plain(tag)["input_ids"], "without learned tokens it is a tag"
