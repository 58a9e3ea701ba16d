"""Rows taken by an index that repeats, with a gradient that is the same at each run."""

from __future__ import annotations

from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """Take rows of x; ``x[index]``, whose gradient adds up the rows that were taken several times in one order.

    On a CPU the backward of ``x[index]`` lets threads add as they come, so that float sums differ from run to run; that of
    ``index_select`` adds one after the other. On a GPU it is the other way round: the former sorts, the latter is atomic.

    Args:
        x: (n, ...).
        index: (m,) int64.

    Returns:
        (m, ...).

    Example:
        >>> import torch
        >>> take(torch.tensor([10.0, 20.0, 30.0]), torch.tensor([2, 0, 2]))
        tensor([30., 10., 30.])
    """
    return x.index_select(0, index) if x.device.type == "cpu" else x[index]
