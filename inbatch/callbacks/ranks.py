"""What rank 0 does for all ranks, so that its failure stops them too instead of leaving them waiting."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch.distributed as dist

from inbatch.errors import InbatchError
from inbatch.kernels.distributed.gather import world_size

R = TypeVar("R")


def on_rank_zero(function: Callable[[], R]) -> R:
    """Call ``function`` on rank 0 and return its result, which must be picklable, on every rank; all ranks must call.

    Raises:
        Exception: on rank 0 what the function raised; on the others an `InbatchError` that quotes it, or the same where it says
            ``on_all_ranks``: what ranks then do together they must do all.

    Example:
        >>> on_rank_zero(lambda: {"val/sts/avg": 0.75})  # a process alone is rank 0
        {'val/sts/avg': 0.75}
    """
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    error: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome[0] = function()
        except Exception as raised:
            same = getattr(raised, "on_all_ranks", False)
            error, outcome[1] = raised, raised if same else f"rank 0 failed: {type(raised).__name__}: {raised}"
    dist.broadcast_object_list(outcome, src=0, group=_patient_group())
    if error is not None:
        raise error
    if outcome[1] is not None:
        raise outcome[1] if isinstance(outcome[1], Exception) else InbatchError(outcome[1])
    return outcome[0]


def highest(number: int) -> int:
    """Return the highest of all ranks' numbers; all ranks must call.

    Example:
        >>> highest(15)  # a process alone has no higher one beside it
        15
    """
    if world_size() == 1:
        return number
    numbers = [0] * world_size()
    dist.all_gather_object(numbers, number, group=_patient_group())
    return max(numbers)


def leave() -> None:
    """Leave the group of ranks: a process that ends as a member of it may crash at its exit, or take the others along.

    Example:
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> leave()
        >>> dist.is_initialized()
        False
    """
    if dist.is_available() and dist.is_initialized():
        _patient_group.cache_clear()
        dist.destroy_process_group()


@cache
def _patient_group() -> Any:
    # The default group gives up after minutes; an evaluation on rank 0 may take longer than that.
    return dist.new_group(backend="gloo", timeout=datetime.timedelta(days=1))
