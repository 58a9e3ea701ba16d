"""Turn texts into a `TokenBatch`: the one place where training, evaluation and inference tokenize, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inbatch.errors import UsageError
from inbatch.templates import fill, is_template
from inbatch.views import TokenBatch


def tokenize(
    tokenizer: Any, texts: Sequence[str], max_length: int | None = None, prompt: str = "", one_string: bool = False
) -> TokenBatch:
    """Tokenize texts, padded to the longest of them.

    Equals ``tokenizer([prompt + text for text in texts], padding=True, truncation=True, max_length=max_length)``; an empty text
    becomes a single space, as in SimCSE's released code.

    Args:
        tokenizer: a Hugging Face tokenizer with a padding token; its ``padding_side`` is kept.
        texts: b strings.
        max_length: tokens kept of each text, special tokens included; None keeps all that the tokenizer allows. In a template, the
            tokens of the text alone.
        prompt: put in front of every text, no space added; or a template, with ``{text}`` where the text goes and ``{mask}`` where
            the mask token does (see `inbatch.templates.fill`).
        one_string: as in `inbatch.templates.fill`.

    Raises:
        UsageError: if an item is not a string, a text yields no token at all, or ``max_length`` leaves no room for one.
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"expected texts of type str; item {index} is {type(text).__name__}: {str(text)[:60]!r}")
    if not texts:
        raise UsageError("expected at least one text to tokenize; got none")
    if is_template(prompt):
        return fill(tokenizer, [text or " " for text in texts], prompt, max_length, one_string)
    special = tokenizer.num_special_tokens_to_add()
    if max_length is not None and max_length <= special:
        # The tokenizer itself would silently truncate nothing, or leave its special tokens alone.
        raise UsageError(
            f"expected max_length of at least {special + 1} ({special} special tokens and one of the text); got {max_length}"
        )
    encoded = tokenizer(
        [prompt + text if text else prompt + " " for text in texts],
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
    return batch
