"""Frozen networks beside the encoder, evaluated once a step and batch, whatever terms and prefixes ask again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from inbatch.kernels import map_in_chunks
from inbatch.views import TokenBatch

# By the identity of network and tokens; both are held beside what was computed, so that no other object takes their place.
Evaluated = dict[tuple[int, int], tuple[nn.Module, TokenBatch, Tensor]]
_evaluated: ContextVar[Evaluated | None] = ContextVar("evaluated", default=None)


@contextmanager
def evaluated_once() -> Iterator[None]:
    """Keep what `embed_frozen` computes until the outermost of these blocks ends; every call of an objective is one.

    Example:
        >>> def network(tokens):
        ...     print("runs")
        ...     return tokens.sum(1, keepdim=True)
        >>> tokens = torch.ones(2, 3)
        >>> with evaluated_once():
        ...     embed_frozen(network, tokens) is embed_frozen(network, tokens)
        runs
        True
    """
    if _evaluated.get() is not None:
        yield
        return
    token = _evaluated.set({})
    try:
        yield
    finally:
        _evaluated.reset(token)


@torch.no_grad()
def embed_frozen(network: nn.Module, tokens: TokenBatch, budget: int | None = None) -> Tensor:
    """Embed texts by a frozen network; equals ``network(tokens)``, computed in chunks, and once for the same tokens.

    Args:
        network: tokens to (b, d), such as `inbatch.models.networks.reference.Reference`.
        tokens: b texts; the same object is the same texts.
        budget: padded tokens a chunk may hold, see `map_in_chunks`.

    Returns:
        (b, d), a constant.

    Example:
        >>> network = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(network.weight)
        >>> embed_frozen(network, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), budget=1)  # one row after the other, and without gradient
        tensor([[3.],
                [7.]])
    """
    known = _evaluated.get()
    place = (id(network), id(tokens))
    if known is not None and place in known:
        return known[place][2]
    found = map_in_chunks(network, tokens, budget=budget)
    if known is not None:
        known[place] = (network, tokens, found)
    return found
