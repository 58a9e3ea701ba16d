"""AnglE's term: rank scored pairs by an angle in complex space, where the cosine saturates."""

from __future__ import annotations

import torch
from torch import Tensor

from inbatch.losses.graded.cosent import CoSENT
from inbatch.views import Views


class Angle(CoSENT):
    """CoSENT's ranking of `angle_similarity` in place of the cosine.

    AnglE adds it to CoSENT on the cosine and to InfoNCE; see ``experiments/angle/``.

    Args:
        scale: λ.

    Source: Li and Li 2024, arXiv 2309.12871, eq. 5 to 7; equals sentence-transformers' ``AnglELoss``.
    """

    def similarity(self, z: Views[Tensor]) -> Tensor:
        """Return what is ranked, (b,)."""
        return angle_similarity(z.anchor, z.positive)


def angle_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Compute ``|Σ (Re + Im)|`` of the quotient of two vectors as complex numbers, their norms divided out; (b, d), (b, d) -> (b,).

    The first half of a vector is its real part, the second its imaginary part. A vector of zeros has similarity 0, and no gradient.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    x, y = x.to(wide), y.to(wide)
    a, b = x.chunk(2, 1)
    c, d = y.chunk(2, 1)
    turned = (a * c + b * d + b * c - a * d).sum(1)
    norms = x.norm(dim=1) * y.norm(dim=1)
    tiny = torch.finfo(wide).tiny
    return (turned / norms.clamp(min=tiny)).masked_fill(norms <= tiny, 0.0).abs()
