"""Gather rows over ranks with the one gradient convention of inbatch: the backward pass sums what all ranks ask of a row.

Each rank scores its own rows against the gathered keys and takes the mean over its own rows; DDP averages over ranks. The result
is the gradient of the global mean, and no factor of the world size stands anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_size(group: Any = None) -> int:
    """Number of ranks, 1 where torch.distributed is not initialised.

    Example:
        >>> world_size()  # in a process of its own
        1
    """
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def row_counts(rows: int, device: torch.device, group: Any = None) -> list[int]:
    """Rows that each rank holds, in rank order; one small collective, none on a single rank.

    Example:
        >>> import torch
        >>> row_counts(32, torch.device("cpu"))  # in a process of its own
        [32]
    """
    if world_size(group) == 1:
        return [rows]
    counts = torch.empty(world_size(group), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(counts, torch.tensor([rows], dtype=torch.int64, device=device), group=group)
    return counts.tolist()


def gather(x: Tensor, group: Any = None, counts: list[int] | None = None) -> tuple[Tensor, int]:
    """Stack the rows of all ranks, in rank order; the gradient of each row is summed over ranks and returns to its owner.

    Equals ``torch.cat([x of rank 0, x of rank 1, ...])``. Ranks may hold different numbers of rows.

    Args:
        x: (b, ...) of any dtype; every rank must call, with the same trailing shape and dtype.
        group: process group; None is the world.
        counts: rows of each rank as `row_counts` gives them, where the caller knows them already.

    Returns:
        ``(rows of all ranks, position of this rank's first row)``; on a single rank ``(x, 0)``.

    Example:
        >>> import torch
        >>> rows, own = gather(torch.tensor([[1.0], [2.0]]))  # in a process of its own: its rows, unchanged
        >>> rows.tolist(), own
        ([[1.0], [2.0]], 0)
    """
    if world_size(group) == 1:
        return x, 0
    counts = row_counts(len(x), x.device, group) if counts is None else counts
    offset = sum(counts[: dist.get_rank(group)])
    return _Gather.apply(x, counts, group), offset  # type: ignore[return-value]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], group: Any) -> Tensor:
        ctx.counts, ctx.group = counts, group
        longest = max(counts)
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[: len(x)] = x
        stacked = x.new_empty(len(counts) * longest, *x.shape[1:])
        dist.all_gather_into_tensor(stacked, padded, group=group)
        if min(counts) == longest:
            return stacked
        return torch.cat([part[:count] for part, count in zip(stacked.split(longest), counts)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        counts, rank = ctx.counts, dist.get_rank(ctx.group)
        # Half precision would lose digits in the sum over ranks.
        total = (grad.float() if grad.dtype in (torch.bfloat16, torch.float16) else grad).contiguous()
        if min(counts) == max(counts) and dist.get_backend(ctx.group) == "nccl":
            own = total.new_empty(counts[rank], *grad.shape[1:])
            dist.reduce_scatter_tensor(own, total, group=ctx.group)
        else:  # gloo, or ranks with unequal rows
            total = total.clone()
            dist.all_reduce(total, group=ctx.group)
            own = total.split(counts)[rank]
        return own.to(grad.dtype), None, None
