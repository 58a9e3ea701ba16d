"""Pooling: one vector a text from the hidden states of its tokens, independent of the side and amount of padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from inbatch.errors import UsageError
from inbatch.views import TokenBatch

PoolingName = Literal["mean", "cls", "last", "first_last", "first_last_h0", "avg_top2", "mask", "mean_text", "learned"]


@dataclass(frozen=True)
class States:
    """Hidden states of a backbone.

    Attributes:
        last: (b, L, h), output of the last layer.
        other: (b, L, h), output of another layer, for the poolings that `OTHER_LAYER` names; None unless it was asked for.
        reads: what an objective reads beside them, by name; see `inbatch.models.reads.picked`.

    Example:
        >>> States(torch.ones(1, 2, 3)).other is None
        True
    """

    last: Tensor
    other: Tensor | None = None
    reads: dict[str, Tensor] = field(default_factory=dict)


def mean(states: States, tokens: TokenBatch) -> Tensor:
    """Average the last layer over the tokens, summed in at least float32; (b, h).

    Example:
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.tensor([[1, 1, 0]]))  # a text of two tokens, and padding
        >>> mean(States(torch.tensor([[[1.0], [3.0], [9.0]]])), tokens)
        tensor([[2.]])
    """
    return _average(states.last, tokens.attention_mask)


def first_last(states: States, tokens: TokenBatch) -> Tensor:
    """Average (h_1 + h_L) / 2 over the tokens, h_1 the output of the first layer; (b, h).

    Source: Su et al. 2021, arXiv 2103.15316; ``avg_first_last`` of SimCSE's code as it is now. See `first_last_h0`.

    Example:
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.tensor([[1, 1, 0]]))
        >>> first_last(States(torch.tensor([[[1.0], [3.0], [9.0]]]), other=torch.zeros(1, 3, 1)), tokens)  # the first layer's are 0
        tensor([[1.]])
    """
    return _average_with(states, tokens, "first_last")


def first_last_h0(states: States, tokens: TokenBatch) -> Tensor:
    """Average (h_0 + h_L) / 2 over the tokens, h_0 the output of the embeddings, before any layer; (b, h).

    Source: ``avg_first_last`` of SimCSE's code at the time of the paper, and of DiffCSE's, PromCSE's and PromptBERT's.

    Example:
        >>> h_0 = torch.tensor([[[5.0], [5.0], [9.0]]])
        >>> first_last_h0(States(torch.tensor([[[1.0], [3.0], [9.0]]]), h_0), TokenBatch(torch.ones(1, 3).long(), torch.tensor([[1, 1, 0]])))
        tensor([[3.5000]])
    """
    return _average_with(states, tokens, "first_last_h0")


def avg_top2(states: States, tokens: TokenBatch) -> Tensor:
    """Average (h_(L-1) + h_L) / 2 over the tokens, the outputs of the last two layers; (b, h).

    A decoder's h_L has passed its last norm, h_(L-1) has not.

    Source: ``avg_top2`` of SimCSE's released code.

    Example:
        >>> before = torch.tensor([[[2.0], [2.0]]])
        >>> avg_top2(States(torch.tensor([[[1.0], [3.0]]]), before), TokenBatch(torch.ones(1, 2).long(), torch.ones(1, 2).long()))
        tensor([[2.]])
    """
    return _average_with(states, tokens, "avg_top2")


def cls(states: States, tokens: TokenBatch) -> Tensor:
    """Take the last layer at the first token that is not padding; (b, h).

    Example:
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.tensor([[0, 1, 1]]))  # padded on the left
        >>> cls(States(torch.tensor([[[1.0], [3.0], [9.0]]])), tokens)
        tensor([[3.]])
    """
    return _pick(states.last, tokens.attention_mask.int().argmax(1))


def last(states: States, tokens: TokenBatch) -> Tensor:
    """Take the last layer at the last token that is not padding; (b, h).

    Example:
        >>> padded = TokenBatch(torch.ones(1, 3).long(), torch.tensor([[1, 1, 0]]))
        >>> last(States(torch.tensor([[[1.0], [3.0], [9.0]]])), padded)
        tensor([[3.]])
    """
    mask = tokens.attention_mask.int()
    return _pick(states.last, mask.shape[1] - 1 - mask.flip(1).argmax(1))


def mask(states: States, tokens: TokenBatch) -> Tensor:
    """Take the last layer at slot ``mask``; (b, h). See `with_mask_slot`.

    Example:
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.ones(1, 3).long(), slots={"mask": torch.tensor([2])})
        >>> mask(States(torch.tensor([[[1.0], [3.0], [9.0]]])), tokens)
        tensor([[9.]])
    """
    return _pick(states.last, tokens.slots["mask"])


def mean_text(states: States, tokens: TokenBatch) -> Tensor:
    """Average the last layer over slot ``text``: the text's own tokens, without prompt and special tokens; (b, h).

    In an echo these are the tokens of the last copy. A text that has none, as a blank, is pooled over all its tokens.

    Source: Lee et al. 2024, arXiv 2405.17428, section 4.2 (instructions masked out); Springer et al. 2024, arXiv 2402.15449.

    Example:
        >>> slots = {"text": torch.tensor([[1, 3]])}  # of a prompt of one token before a text of two
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.ones(1, 3).long(), slots=slots)
        >>> mean_text(States(torch.tensor([[[1.0], [3.0], [9.0]]])), tokens)
        tensor([[6.]])
    """
    start, stop = tokens.slots["text"].unbind(1)
    place = torch.arange(tokens.input_ids.shape[1], device=start.device)
    own = ((place >= start[:, None]) & (place < stop[:, None])).long()
    return _average(states.last, own.where(own.any(1, keepdim=True), tokens.attention_mask))


def learned(states: States, tokens: TokenBatch) -> Tensor:
    """Average the last layer over slot ``learned``, the learned tokens behind the text; (b, h).

    Source: Deng et al. 2025, arXiv 2502.11401, section 3.

    Example:
        >>> slots = {"learned": torch.tensor([[1, 2]])}
        >>> learned(States(torch.tensor([[[1.0], [3.0], [9.0]]])), TokenBatch(torch.ones(1, 3).long(), torch.ones(1, 3).long(), slots=slots))
        tensor([[6.]])
    """
    found = at_learned(states, tokens)
    return found.to(torch.promote_types(found.dtype, torch.float32)).mean(1)


def at_learned(states: States, tokens: TokenBatch) -> Tensor:
    """Take the last layer at slot ``learned``; (b, k, h).

    Example:
        >>> tokens = TokenBatch(torch.ones(1, 3).long(), torch.ones(1, 3).long(), slots={"learned": torch.tensor([[1, 2]])})
        >>> at_learned(States(torch.tensor([[[1.0], [3.0], [9.0]]])), tokens).flatten()
        tensor([3., 9.])
    """
    place = tokens.slots["learned"].unsqueeze(-1).expand(-1, -1, states.last.shape[-1])
    return states.last.gather(1, place)


POOLINGS: dict[str, Callable[[States, TokenBatch], Tensor]] = {
    "mean": mean,
    "cls": cls,
    "last": last,
    "first_last": first_last,
    "first_last_h0": first_last_h0,
    "avg_top2": avg_top2,
    "mask": mask,
    "mean_text": mean_text,
    "learned": learned,
}


# The layer that a pooling reads beside the last: 0 is the output of the embeddings, -1 that of the last layer.
OTHER_LAYER = {"first_last": 1, "first_last_h0": 0, "avg_top2": -2}
# The slot that a pooling reads, where the tokens alone do not tell it.
NEEDS_SLOT = {"mean_text": "text", "learned": "learned"}


def with_mask_slot(tokens: TokenBatch, mask_token_id: int) -> TokenBatch:
    """Return the batch with slot ``mask`` at each text's mask token; a slot that is there already stays.

    Raises:
        UsageError: if a text has no mask token, or several.

    Example:
        >>> tokens = TokenBatch(torch.tensor([[5, 9, 6]]), torch.ones(1, 3).long())
        >>> with_mask_slot(tokens, 9).slots["mask"]
        tensor([1])
    """
    if "mask" in tokens.slots:
        return tokens
    found = (tokens.input_ids == mask_token_id) & tokens.attention_mask.bool()
    counts = found.sum(1)
    if bool((counts != 1).any()):
        row = int((counts != 1).int().argmax())
        raise UsageError(
            f"pooling `mask` expects exactly one mask token a text; text {row} of the batch has {int(counts[row])}. "
            "Put {mask} into the prompt, name the prompt (or set encoder.default_prompt), and raise max_length if truncation cut it off."
        )
    return replace(tokens, slots={**tokens.slots, "mask": found.int().argmax(1)})


def _average_with(states: States, tokens: TokenBatch, name: str) -> Tensor:
    if states.other is None:
        raise ValueError(
            f"pooling {name} needs another layer's states; run the backbone with layer={OTHER_LAYER[name]}"
        )
    mask = tokens.attention_mask
    return (_average(states.other, mask) + _average(states.last, mask)) / 2


def _average(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    weight = attention_mask.unsqueeze(-1)
    # Filled, not multiplied: what a backbone leaves on padding may be NaN, and NaN times 0 stays.
    total = hidden.masked_fill(weight == 0, 0.0).sum(1)
    return total / weight.sum(1).clamp(min=1).to(total.dtype)


def _pick(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), index]
