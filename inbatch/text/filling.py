"""Fill templates with texts: the text is truncated, the template never."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from inbatch.errors import UsageError
from inbatch.text.templates import Template, as_string, parse
from inbatch.views import TokenBatch

# One row: its token ids, and its slots by name.
_Row = tuple[list[int], dict[str, list[int]]]


def fill(
    tokenizer: Any, texts: Sequence[str], prompts: str | Sequence[str], max_length: int | None, one_string: bool = False
) -> TokenBatch:
    """Put texts into templates and tokenize them.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: b strings.
        prompts: with the slot; one for all, or one a text.
        max_length: tokens kept of each text itself; the template comes on top. None keeps all that the tokenizer allows.
        one_string: tokenize the filled template as a whole where the text need not be cut, which in a byte-pair vocabulary joins
            the text's first word with the blank before it; else the text is tokenized by itself.

    Returns:
        Tokens with slots: ``text`` (b, 2), where the text's last copy begins and ends; ``mask`` (b,), the template's mask token;
        ``learned`` (b, k), its learned tokens; the latter two where the templates have them. Token types, where the tokenizer gives
        any, are 0.

    Raises:
        UsageError: if a template leaves no room for a text.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer("bert", 64, "right")  # one token a letter
        >>> batch = fill(tokenizer, ["a cat", "a dog"], '"{text}" is {mask}.', max_length=3)
        >>> tokenizer.batch_decode(batch.input_ids)
        ['[CLS]"a c" is [MASK].[SEP]', '[CLS]"a d" is [MASK].[SEP]']
        >>> batch.slots["text"][0].tolist(), batch.slots["mask"].tolist()
        ([2, 5], [10, 10])
    """
    given = [prompts] * len(texts) if isinstance(prompts, str) else list(prompts)
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    rows, whole = [], []
    for ids, prompt in zip(encoded, given):
        template = parse(tokenizer, prompt)
        kept = _kept(tokenizer, template, prompt, max_length)
        rows.append(_in_pieces(ids[:kept], template))
        whole.append(len(template) + template.copies * kept)
    if one_string:
        joined = _as_strings(tokenizer, texts, given)
        # Each text by itself, so that none depends on those beside it.
        rows = [one if len(one[0]) <= most else cut for one, cut, most in zip(joined, rows, whole)]
    return _padded(tokenizer, rows)


def cut(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[str]:
    """Cut texts to so many tokens by themselves and decode them, as PromptEOL's release does before it fills its template.

    What is decoded has no blank before a full stop, a comma, ``n't`` and the like: transformers took them out in all versions before 5.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: b strings.
        max_length: tokens kept of each, without special tokens.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> cut(tiny_tokenizer("bert", 64, "right"), ["a cat on a mat ."], max_length=5)  # of one token a letter
        ['a cat']
    """
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    decoded = [tokenizer.decode(ids[:max_length], clean_up_tokenization_spaces=False) for ids in encoded]
    return [tokenizer.clean_up_tokenization(text) for text in decoded]


def _kept(tokenizer: Any, template: Template, prompt: str, max_length: int | None) -> int:
    room = (tokenizer.model_max_length - len(template)) // template.copies
    kept = room if max_length is None else min(room, max_length)
    if kept < 1:
        raise UsageError(
            f"expected a template that leaves room for a text within {kept + len(template)} tokens; {prompt!r} takes {len(template)}. "
            "Shorten it, or raise max_length."
        )
    return kept


def _in_pieces(ids: list[int], template: Template) -> _Row:
    row = list(template.left)
    for piece in template.pieces[1:]:
        row += [*ids, *piece]
    end = len(row) - len(template.right)
    slots = {"text": [end - len(ids), end]}
    if template.mask is not None:
        slots["mask"] = [template.mask_position(len(ids))]
    if template.learned:
        slots["learned"] = [end + place for place in template.learned]
    return row, slots


def _as_strings(tokenizer: Any, texts: Sequence[str], prompts: Sequence[str]) -> list[_Row]:
    strings, starts = zip(*(as_string(tokenizer, text, prompt) for text, prompt in zip(texts, prompts)))
    encoded = tokenizer(list(strings), verbose=False)
    rows = []
    for i, (ids, text, start) in enumerate(zip(encoded["input_ids"], texts, starts)):
        template = parse(tokenizer, prompts[i])
        slots = {}
        if tokenizer.is_fast:
            slots["text"] = span(encoded.encodings[i], start, start + len(text))
        if template.mask is not None:
            slots["mask"] = [_mask_in(ids, tokenizer.mask_token_id, template.mask_is_right)]
        if template.learned:  # they close the template, whatever the text's tokens are
            slots["learned"] = [len(ids) - len(template.right) + place for place in template.learned]
        rows.append((list(ids), slots))
    return rows


def span(encoding: Any, start: int, stop: int) -> list[int]:
    """Return the first token of a string's characters [start, stop), and the one behind the last.

    A token that holds a character of the text and some before it, as a blank, is the text's. Blanks that a vocabulary drops are
    skipped.

    Args:
        encoding: of the tokenizers library, not truncated.
        start: character.
        stop: character.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> encoding = tiny_tokenizer("bert", 64, "right")("a cat").encodings[0]
        >>> start, stop = span(encoding, 2, 5)
        >>> encoding.tokens[start:stop]
        ['c', 'a', 't']
    """
    first = first_token(encoding, range(start, stop))
    last = first_token(encoding, range(stop - 1, start - 1, -1))
    return [len(encoding.ids)] * 2 if first is None or last is None else [first, last + 1]


def first_token(encoding: Any, characters: range) -> int | None:
    """Return the token of the first of these characters that has one.

    Example:
        >>> from inbatch.models.backbones.tiny import tiny_tokenizer
        >>> encoding = tiny_tokenizer("bert", 64, "right")("a cat").encodings[0]
        >>> first_token(encoding, range(2, 5))  # behind [CLS], "a" and the blank
        3
        >>> first_token(encoding, range(5, 9)) is None
        True
    """
    return next((t for c in characters if (t := encoding.char_to_token(c)) is not None), None)


def _mask_in(ids: list[int], mask_token_id: int, last: bool) -> int:
    """Find the template's mask token, whatever the text may contain."""
    return len(ids) - 1 - ids[::-1].index(mask_token_id) if last else ids.index(mask_token_id)


def _padded(tokenizer: Any, rows: list[_Row]) -> TokenBatch:
    longest = max(len(ids) for ids, _ in rows)
    left = tokenizer.padding_side == "left"
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    shifts = torch.tensor([longest - len(row) if left else 0 for row, _ in rows])
    for i, ((row, _), start) in enumerate(zip(rows, shifts.tolist())):
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
    slots = {}
    for name in set.intersection(*(set(found) for _, found in rows)):
        places = torch.tensor([found[name] for _, found in rows]) + shifts[:, None]
        slots[name] = places.squeeze(1) if name == "mask" else places
    types = torch.zeros_like(ids) if "token_type_ids" in tokenizer.model_input_names else None
    return TokenBatch(ids, mask, token_type_ids=types, slots=slots)
