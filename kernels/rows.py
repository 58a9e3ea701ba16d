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
    """
    return x.index_select(0, index) if x.device.type == "cpu" else x[index]
