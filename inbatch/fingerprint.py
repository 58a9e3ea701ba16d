"""Tell one network from another at little cost: by some numbers of each of its tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

# Numbers of each tensor that are looked at.
COUNT = 16


@torch.no_grad()
def samples(tensors: Iterable[Tensor]) -> Tensor:
    """Take some numbers of each tensor, evenly spaced; (n, 16) float32 on the CPU, the shape's size first and 0 where there are fewer.

    Example:
        >>> samples([torch.tensor([0.5, 0.25]), torch.arange(60.0)])[:, :6]  # the size, then evenly spaced numbers
        tensor([[ 2.0000,  0.5000,  0.2500,  0.0000,  0.0000,  0.0000],
                [60.0000,  0.0000,  4.0000,  8.0000, 12.0000, 16.0000]])
    """
    rows = []
    for tensor in tensors:
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // (COUNT - 1))][: COUNT - 1].float().cpu()
        row = torch.zeros(COUNT)
        row[0], row[1 : 1 + len(some)] = float(flat.numel()), some
        rows.append(row)
    return torch.stack(rows) if rows else torch.zeros(0, COUNT)


def alike(a: Tensor, b: Tensor) -> bool:
    """Say whether two `samples` are of the same numbers, be they in float32 or rounded to half precision.

    Example:
        >>> weight = torch.tensor([0.1, 0.2, 0.3])
        >>> alike(samples([weight]), samples([weight.bfloat16()])), alike(samples([weight]), samples([weight + 0.1]))
        (True, False)
    """
    return a.shape == b.shape and torch.allclose(a, b, rtol=2e-2, atol=1e-4)


def digest(tensors: Iterable[Tensor]) -> str:
    """Hash `samples`, rounded to bfloat16: 16 hex digits.

    Example:
        >>> weight = torch.tensor([0.1, 0.2, 0.3])
        >>> len(digest([weight])), digest([weight]) == digest([weight.bfloat16()]), digest([weight]) == digest([weight + 0.1])
        (16, True, False)
    """
    return hashlib.sha256(samples(tensors).bfloat16().float().numpy().tobytes()).hexdigest()[:16]
