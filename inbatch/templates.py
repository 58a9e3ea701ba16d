"""Templates: a text's place inside of a fixed sentence; the text is truncated, the template never."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from inbatch.errors import UsageError
from inbatch.views import TokenBatch

SLOT = "{text}"
MASK = "{mask}"


@dataclass(frozen=True)
class Template:
    """The token ids around a text.

    Attributes:
        left: special tokens and the words before the text.
        right: the words after it, and special tokens.
        mask: place of the mask token: counted from the left in ``left``, or from ``right``'s first token; None without one.
        mask_is_right: whether it stands behind the text.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    mask: int | None
    mask_is_right: bool

    def __len__(self) -> int:
        return len(self.left) + len(self.right)

    def mask_position(self, length: int) -> int:
        """Return the place of the mask token around a text of so many tokens."""
        assert self.mask is not None
        return self.mask + (len(self.left) + length if self.mask_is_right else 0)


def is_template(prompt: str) -> bool:
    """Say whether a prompt is a template; else it is a prefix."""
    return SLOT in prompt


def taken(tokenizer: Any, prompt: str) -> int:
    """Return the tokens that a template takes beyond those of its text; 0 for a prefix, which counts as text."""
    return len(parse(tokenizer, prompt)) if is_template(prompt) else 0


def check_template(prompt: str, tokenizer: Any, masked: bool) -> None:
    """Refuse a prompt that cannot be filled.

    Args:
        prompt: a template or a prefix.
        tokenizer: of the encoder.
        masked: whether the mask position is pooled.

    Raises:
        UsageError: if the slot is missing or comes twice, or the mask token does.
    """
    marks = prompt.count(MASK) + (prompt.count(tokenizer.mask_token) if tokenizer.mask_token else 0)
    if MASK in prompt and tokenizer.mask_token is None:
        raise UsageError(f"expected a tokenizer with a mask token for the template {prompt!r}; this one has none.")
    if MASK in prompt and SLOT not in prompt:
        raise UsageError(f"expected the slot {SLOT} in the template {prompt!r}; it is missing. Set encoder.prompts.")
    unknown = [word for word in re.findall(r"\{\w+\}", prompt) if word not in (SLOT, MASK)]
    if unknown and (SLOT in prompt or MASK in prompt):
        raise UsageError(
            f"expected the slots {SLOT} and {MASK} in the template {prompt!r}; got {unknown[0]}. Set encoder.prompts."
        )
    if prompt.count(SLOT) > 1:
        raise UsageError(
            f"expected the slot {SLOT} once in the template {prompt!r}; it is there {prompt.count(SLOT)} times."
        )
    if masked and is_template(prompt) and marks != 1:
        raise UsageError(
            f"pooling `mask` expects one {MASK} in the template {prompt!r}; it has {marks}. Set encoder.prompts."
        )


@lru_cache(maxsize=64)
def parse(tokenizer: Any, prompt: str) -> Template:
    """Tokenize what is around the text; its two sides by themselves, as PromptBERT's released training does.

    Blanks in front of the text are left out: to a byte-pair vocabulary they would be a token of their own.
    """
    left, right = ((part.replace(MASK, tokenizer.mask_token or MASK)) for part in prompt.split(SLOT))
    head, tail = _special_tokens(tokenizer)
    left_ids = (*head, *tokenizer(left.strip(), add_special_tokens=False)["input_ids"])
    right_ids = (*tokenizer(right, add_special_tokens=False)["input_ids"], *tail)
    for is_right, ids in ((False, left_ids), (True, right_ids)):
        if tokenizer.mask_token_id is not None and tokenizer.mask_token_id in ids:
            return Template(left_ids, right_ids, ids.index(tokenizer.mask_token_id), is_right)
    return Template(left_ids, right_ids, None, False)


def _special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a tokenizer puts before and after a text."""
    plain, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    place = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return tuple(whole[:place]), tuple(whole[place + len(plain) :])


def fill(
    tokenizer: Any, texts: Sequence[str], prompt: str, max_length: int | None, one_string: bool = False
) -> TokenBatch:
    """Put texts into a template and tokenize them.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: b strings.
        prompt: with the slot.
        max_length: tokens kept of each text itself; the template comes on top. None keeps all that the tokenizer allows.
        one_string: tokenize the filled template as a whole where the text need not be cut, which in a byte-pair vocabulary joins
            the text's first word with the blank before it; else the text is tokenized by itself.

    Returns:
        Tokens, with the slot ``mask`` where the template has a mask token; token types, where the tokenizer gives any, are 0.

    Raises:
        UsageError: if the template leaves no room for a text.
    """
    template = parse(tokenizer, prompt)
    room = tokenizer.model_max_length - len(template)
    kept = room if max_length is None else min(room, max_length)
    if kept < 1:
        raise UsageError(
            f"expected a template that leaves room for a text within {kept + len(template)} tokens; {prompt!r} takes {len(template)}. "
            "Shorten it, or raise max_length."
        )
    encoded = [ids[:kept] for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]
    rows = [[*template.left, *ids, *template.right] for ids in encoded]
    places = [None if template.mask is None else template.mask_position(len(ids)) for ids in encoded]
    if one_string:
        for i, ids in enumerate(_as_one_string(tokenizer, texts, prompt)):
            if len(ids) <= kept + len(template):  # each text by itself, so that none depends on those beside it
                rows[i], places[i] = ids, _mask_in(ids, tokenizer.mask_token_id, template)
    return _padded(tokenizer, rows, places)


def _as_one_string(tokenizer: Any, texts: Sequence[str], prompt: str) -> list[list[int]]:
    before, after = (part.replace(MASK, tokenizer.mask_token or MASK) for part in prompt.split(SLOT))
    return tokenizer([before + text + after for text in texts], verbose=False)["input_ids"]


def _mask_in(ids: list[int], mask_token_id: int, template: Template) -> int | None:
    """Find the template's mask token, whatever the text may contain."""
    if template.mask is None:
        return None
    return len(ids) - 1 - ids[::-1].index(mask_token_id) if template.mask_is_right else ids.index(mask_token_id)


def _padded(tokenizer: Any, rows: list[list[int]], places: Sequence[int | None]) -> TokenBatch:
    longest = max(map(len, rows))
    left = tokenizer.padding_side == "left"
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    shifts = [longest - len(row) if left else 0 for row in rows]
    for i, (row, start) in enumerate(zip(rows, shifts)):
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
    found = [place + shift for place, shift in zip(places, shifts) if place is not None]
    slots = {"mask": torch.tensor(found)} if found else {}
    types = torch.zeros_like(ids) if "token_type_ids" in tokenizer.model_input_names else None
    return TokenBatch(ids, mask, token_type_ids=types, slots=slots)


def with_period(text: str) -> str:
    """Add a full stop to a text that does not end in one of ``. ? " '``, as PromptBERT's released evaluation does."""
    return text if text.endswith((".", "?", '"', "'")) else text + "."
