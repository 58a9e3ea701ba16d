"""Turn texts into a `TokenBatch`: the one place where training, evaluation and inference tokenize, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from inbatch.errors import UsageError
from inbatch.text.filling import fill, first_token
from inbatch.text.templates import LEARNED_MARK, is_template, learned_ids, special_tokens
from inbatch.text.texts import mended
from inbatch.views import TokenBatch


def tokenize(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int | None = None,
    prompt: str | Sequence[str] = "",
    one_string: bool = False,
    spans: bool = False,
) -> TokenBatch:
    """Tokenize texts, padded to the longest of them.

    Equals ``tokenizer([prompt + text for text in texts], padding=True, truncation=True, max_length=max_length)``; an empty text
    becomes a single space, as in SimCSE's released code, and half a surrogate pair U+FFFD (`inbatch.text.texts.mended`).

    Args:
        tokenizer: a Hugging Face tokenizer with a padding token; its ``padding_side`` is kept.
        texts: b strings.
        max_length: tokens kept of each text, special tokens included; None keeps all that the tokenizer allows. In a template, the
            tokens of the text alone.
        prompt: put in front of every text, no space added; or a template, with ``{text}`` where the text goes and ``{mask}`` where
            the mask token does (see `inbatch.text.filling.fill`). One for all texts, or one a text, all of a kind.
        one_string: as in `inbatch.text.filling.fill`.
        spans: also behind a prefix, give slot ``text`` (b, 2), where the text itself begins and ends; templates always give it.

    Raises:
        UsageError: if an item is not a string, a text yields no token at all, or ``max_length`` leaves no room for one.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer("bert", 64, "right")  # one token a letter
        >>> batch = tokenize(tokenizer, ["cat", "elephant"], max_length=9, prompt="a ")
        >>> tokenizer.batch_decode(batch.input_ids)
        ['[CLS]a cat[SEP][PAD][PAD]', '[CLS]a eleph[SEP]']
        >>> batch.lengths
        tensor([7, 9])
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"expected texts of type str; item {index} is {type(text).__name__}: {str(text)[:60]!r}")
    if not texts:
        raise UsageError("expected at least one text to tokenize; got none")
    texts = [mended(text) for text in texts]
    prompts = [mended(before) for before in ([prompt] * len(texts) if isinstance(prompt, str) else prompt)]
    if any(LEARNED_MARK in text for text in texts) and learned_ids(tokenizer):
        # Words of a text, and not the tokens that this encoder pools.
        texts = [text.replace(LEARNED_MARK, LEARNED_MARK[0] + " " + LEARNED_MARK[1:]) for text in texts]
    if any(map(is_template, prompts)):
        return fill(tokenizer, [text or " " for text in texts], prompts, max_length, one_string)
    special = tokenizer.num_special_tokens_to_add()
    if max_length is not None and max_length <= special:
        # The tokenizer itself would silently truncate nothing, or leave its special tokens alone.
        raise UsageError(
            f"expected max_length of at least {special + 1} ({special} special tokens and one of the text); got {max_length}"
        )
    for prefix in set(prompts):
        check_prefix(tokenizer, prefix, max_length)
    encoded = tokenizer(
        [before + (text or " ") for before, text in zip(prompts, texts)],
        padding=True,
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
        return_attention_mask=True,
    )
    batch = TokenBatch(
        encoded["input_ids"].long(), encoded["attention_mask"].long(), token_type_ids=encoded.get("token_type_ids")
    )
    empty = (batch.lengths == 0).nonzero().flatten().tolist() if batch.input_ids.shape[1] else list(range(len(texts)))
    if empty:
        raise UsageError(
            f"expected at least one token a text; text {empty[0]} ({texts[empty[0]][:40]!r}) has none. "
            "Remove blank texts, or use a tokenizer that adds special tokens."
        )
    if spans:
        batch.slots["text"] = _spans(tokenizer, encoded, batch, prompts, texts)
    return batch


def check_prefix(tokenizer: Any, prefix: str, max_length: int | None) -> None:
    """Refuse a prefix that truncation would cut, or that leaves no room for a text.

    Args:
        tokenizer: a Hugging Face tokenizer.
        prefix: a prompt without slots.
        max_length: tokens kept of prefix, text and special tokens together; None for the tokenizer's own limit.

    Raises:
        UsageError: if so.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> check_prefix(tiny_tokenizer("bert", 64, "right"), "query: ", max_length=9)  # one token a letter
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a prompt that leaves room for a text within 9 tokens; 'query: ' takes 9 with the special tokens.
        Shorten it, or raise max_length.
    """
    if not prefix:
        return
    if tokenizer.truncation_side == "left":
        raise UsageError(
            f"expected a tokenizer that truncates on the right; this one would cut the prompt {prefix!r}. Set its truncation_side, or "
            "write the prompt as a template with {text}."
        )
    room = tokenizer.model_max_length if max_length is None else max_length
    taken = _tokens_in(tokenizer, prefix) + tokenizer.num_special_tokens_to_add()
    if taken >= room:
        raise UsageError(
            f"expected a prompt that leaves room for a text within {room} tokens; {prefix!r} takes {taken} with the special tokens. "
            "Shorten it, or raise max_length."
        )


@lru_cache(maxsize=4096)
def _tokens_in(tokenizer: Any, prefix: str) -> int:
    return len(tokenizer(prefix, add_special_tokens=False, verbose=False)["input_ids"])


def _spans(tokenizer: Any, encoded: Any, batch: TokenBatch, prompts: Sequence[str], texts: Sequence[str]) -> Tensor:
    if not tokenizer.is_fast:
        raise UsageError(
            f"pooling `mean_text` expects a tokenizer that tells which token a character became; {type(tokenizer).__name__} does not. "
            "Use templates with {text}, or another pooling."
        )
    tail = len(special_tokens(tokenizer)[1])
    last = batch.attention_mask.shape[1] - batch.attention_mask.flip(1).int().argmax(1)
    found = []
    for encoding, before, text, end in zip(encoded.encodings, prompts, texts, (last - tail).tolist()):
        start = first_token(encoding, range(len(before), len(before) + len(text or " ")))
        found.append([end if start is None else start, end])
    return torch.tensor(found)
