"""Division of vectors by their norms, in one place, so that vectors of exactly zero are treated alike everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_NORM = 1e-12
"""What torch's ``normalize`` divides by at least; a vector of this norm or less has no direction."""


def unit_rows(x: Tensor) -> Tensor:
    """Divide vectors by their L2 norms, in at least float32; (..., d) -> (..., d).

    Equals ``torch.nn.functional.normalize(x.float(), dim=-1)``, except for vectors of zeros: they stay zeros and get no gradient.
    There torch's gradient is 1e12 times what comes in, which clipping turns into a step in which nothing else counts.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    norm = x.norm(dim=-1, keepdim=True)
    # Not `norm > SMALLEST_NORM`: a NaN must stay one.
    return (x / norm.clamp_min(SMALLEST_NORM)).masked_fill(norm <= SMALLEST_NORM, 0.0)
