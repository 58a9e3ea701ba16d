"""Gradient caching in one function: apply a per-example function chunk by chunk, with one chunk's activations alive at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Output = Tensor | tuple[Tensor, ...]
# What a chunk may hold of padding, and from how many tokens on. Pairs of the environment corpus, 1,024 rows in chunks of 16,384 tokens:
# 13 % of padding without the rule, 4 % with it.
PADDING, BUSY = 0.1, 2048
Observer = Callable[[str, int, int], None]
# Of this process, not of a thread or a context: on a GPU the backward pass runs in a thread of autograd's own.
_observers: list[Observer] = []


def map_in_chunks(function: Callable[..., Output], *batches: Any, budget: int | None = None) -> Any:
    """Apply a per-example function to chunks of rows, so that memory holds the activations of one chunk only.

    Equals ``function(*batches)`` in values and gradients, up to rounding, when the function treats each row by itself and draws
    nothing random; with random draws it equals the same chunks without recomputation, bitwise. Rows are sorted by length, cut by
    a token budget, trimmed to the longest row of their chunk, and returned in the batch's order. Each chunk but the last is
    computed again in the backward pass (the last one keeps its graph, which is consumed before any other chunk is recomputed).

    Args:
        function: takes as many arguments as there are batches, returns a tensor (rows, ...) or a tuple of such tensors. It must
            return what each example owns (sums and counts, never means over the chunk).
        *batches: containers of b rows with ``lengths`` (b,), ``select(rows)`` and ``trim()``, such as ``TokenBatch``, or plain
            tensors (b, ...), which are indexed by row. All are cut at the same rows; the sort key is the sum of the lengths.
        budget: padded tokens that a chunk may hold (rows times the longest row; at least one row); None makes one chunk. Chunks are
            smaller where they would hold too much padding, see `chunk_sizes`.

    Returns:
        The function's output for all b rows, in order.

    Raises:
        ValueError: if there are no rows, the batches differ in rows, or the budget is not positive.

    Source: Gao et al. 2021, arXiv 2101.06983; here as one checkpoint a chunk instead of two explicit passes.

    Example:
        >>> import torch
        >>> layer, rows = torch.nn.Linear(4, 2), torch.randn(10, 4)
        >>> out = map_in_chunks(layer, rows, budget=3)  # rows of a plain tensor count as one token each: four chunks
        >>> torch.allclose(out, layer(rows))
        True
        >>> out.sum().backward()
    """
    if not batches or len({len(batch) for batch in batches}) != 1 or len(batches[0]) == 0:
        raise ValueError(
            f"expected batches of one common, positive number of rows; got {[len(batch) for batch in batches]}"
        )
    if budget is not None and budget < 1:
        raise ValueError(
            f"expected a positive number of tokens a chunk; got budget={budget}. Set it to None for one chunk."
        )
    lengths = _lengths(batches)
    order = torch.argsort(lengths, descending=True, stable=True)
    sizes = chunk_sizes(lengths[order].tolist(), budget)
    recompute = torch.is_grad_enabled() and len(sizes) > 1
    outputs, again = [], count(1)
    for number, rows in enumerate(order.split(sizes)):
        chunk = [_select(batch, rows) for batch in batches]
        told = _told(function, number, len(sizes), again)
        if recompute and number < len(sizes) - 1:
            outputs.append(_checkpointed(told, chunk))
        else:
            outputs.append(told(*chunk))
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    if isinstance(outputs[0], Tensor):
        return _restore(outputs, inverse)
    return tuple(_restore(column, inverse) for column in zip(*outputs))


@contextmanager
def observed_chunks(observer: Observer) -> Iterator[None]:
    """Call ``observer(direction, done, total)`` before each chunk that `map_in_chunks` computes, in any thread.

    ``direction`` is "forward", or "backward" where a chunk is computed again for its gradient; ``done`` and ``total`` count the chunks of
    that call in that direction. An exception of the observer ends the pass, and reaches who called it.

    Example:
        >>> import torch
        >>> with observed_chunks(lambda *state: print(*state)):
        ...     _ = map_in_chunks(torch.nn.Linear(4, 2), torch.randn(5, 4), budget=3)
        forward 0 2
        forward 1 2
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def chunk_sizes(lengths: list[int], budget: int | None) -> list[int]:
    """Cut rows, given by non-increasing lengths, into runs with ``rows * first length <= budget``, at least one row each.

    A run also ends where one more row would make more than a tenth of it padding, once it holds tokens enough to keep a processor
    busy: texts differ in length, and padding costs what tokens do.

    Example:
        >>> chunk_sizes([8, 5, 4, 2, 2, 1], budget=10)  # the longest row of a chunk times its rows: 8, 10, 8 and 1
        [1, 2, 3]
    """
    if budget is None:
        return [len(lengths)]
    sizes, start = [], 0
    while start < len(lengths):
        longest = max(1, lengths[start])
        size, tokens = 1, lengths[start]
        for length in lengths[start + 1 : start + max(1, budget // longest)]:
            if tokens >= BUSY and tokens + length < (1 - PADDING) * (size + 1) * longest:
                break
            size, tokens = size + 1, tokens + length
        sizes.append(size)
        start += size
    return sizes


def padding_share(lengths: Tensor, budget: int | None) -> float:
    """Return which share of the tokens that `map_in_chunks` computes for rows of these lengths, (b,), is padding.

    Example:
        >>> import torch
        >>> padding_share(torch.tensor([8, 4, 4]), budget=None)  # 16 tokens in 3 rows of 8
        0.33333333333333337
    """
    ordered = sorted(lengths.tolist(), reverse=True)
    computed, start = 0, 0
    for size in chunk_sizes(ordered, budget):
        computed += size * ordered[start]
        start += size
    return 1 - sum(ordered) / max(1, computed)


def _told(function: Callable[..., Output], number: int, total: int, again: Iterator[int]) -> Callable[..., Output]:
    """Tell the observers before each call of a chunk's function: the first is the forward pass, a further one the backward pass."""
    first = True

    def run(*arguments: Any) -> Output:
        nonlocal first
        state = ("forward", number) if first else ("backward", min(next(again), total))
        first = False
        for observer in tuple(_observers):
            observer(*state, total)
        return function(*arguments)

    return run


def _lengths(batches: tuple[Any, ...]) -> Tensor:
    known = [batch.lengths.cpu() for batch in batches if not isinstance(batch, Tensor)]
    return torch.stack(known).sum(0) if known else torch.ones(len(batches[0]), dtype=torch.int64)


def _select(batch: Any, rows: Tensor) -> Any:
    if isinstance(batch, Tensor):
        return batch[rows.to(batch.device)]
    return batch.select(rows.to(batch.lengths.device)).trim()


def _checkpointed(function: Callable[..., Output], chunk: list[Any]) -> Output:
    # checkpoint saves the generator state of the devices of the tensors among its arguments, and looks only at plain tensors:
    # the lengths of a container stand for the device it is on, else dropout on a GPU would differ when the chunk is replayed.
    tensors = [item for item in chunk if isinstance(item, Tensor)]
    witnesses = [item.lengths for item in chunk if not isinstance(item, Tensor)]

    def run(*arguments: Tensor) -> Output:
        given = iter(arguments)
        return function(*(next(given) if isinstance(item, Tensor) else item for item in chunk))

    return checkpoint(run, *tensors, *witnesses, use_reentrant=False)  # type: ignore[no-any-return]


def _restore(chunks: list[Tensor] | tuple[Tensor, ...], inverse: Tensor) -> Tensor:
    rows = torch.cat(list(chunks))
    return rows.index_select(0, inverse.to(rows.device))
