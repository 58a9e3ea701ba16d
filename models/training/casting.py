"""What keeps its precision when a trainer casts a whole model to half precision (bf16-true, 16-true)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def kept_wide(module: nn.Module, holders: Iterable[nn.Module]) -> Iterator[None]:
    """Move or cast a module inside of the block; some of its numbers move, and keep their dtype.

    - Buffers that networks compute and do not save, such as rotary frequencies: an export computes them anew, and would embed otherwise.
    - Single numbers, such as temperatures and scales, wherever they are: small steps of them vanish in half precision.
    - What a holder has itself, beside the networks inside of it: constants and queues of an objective.

    Args:
        module: what is cast inside of the block.
        holders: parts of it whose own parameters and buffers are kept.

    Example:
        >>> import torch
        >>> part = nn.ParameterList([nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2))])
        >>> with kept_wide(part, []):
        ...     _ = part.half()
        >>> [p.dtype for p in part]
        [torch.float32, torch.float16]
    """
    found = [(table, name, table[name]) for table, name in _wide(module, {id(part) for part in holders})]
    held = [tensor.data for _, _, tensor in found]
    yield
    for (table, name, tensor), before in zip(found, held):
        moved = table[name]
        if moved.dtype == before.dtype:
            continue
        if isinstance(tensor, nn.Parameter):
            moved.data = before.to(moved.device)  # the optimizer may know the parameter already
        else:
            table[name] = before.to(moved.device)


def _wide(module: nn.Module, holders: set[int]) -> Iterator[tuple[dict[str, Any], str]]:
    """Name the numbers that are kept by the table that holds them."""
    for part in module.modules():
        for table, computed in ((part._parameters, set()), (part._buffers, part._non_persistent_buffers_set)):
            for name, tensor in table.items():
                if tensor is not None and (id(part) in holders or tensor.ndim == 0 or name in computed):
                    yield table, name
