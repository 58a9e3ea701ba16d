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

    Example:
        >>> z = Views(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))  # similarities 1 and 0
        >>> scored = [Views(*z, score=torch.tensor(scores)) for scores in ([1.0, 0.0], [0.0, 1.0])]
        >>> [round(Angle(scale=1.0)(each, None, None).loss.item(), 4) for each in scored]  # log(1 + 1/e) and log(1 + e)
        [0.3133, 1.3133]
    """

    def similarity(self, z: Views[Tensor]) -> Tensor:
        """Return what is ranked, (b,)."""
        return angle_similarity(z.anchor, z.positive)


def angle_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Compute ``|Σ (Re + Im)|`` of the quotient of two vectors as complex numbers, their norms divided out; (b, d), (b, d) -> (b,).

    The first half of a vector is its real part, the second its imaginary part. A vector of zeros has similarity 0, and no gradient.

    Example:
        >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]])
        >>> angle_similarity(x, y)  # quotients of lengths 1: 1, and (1 - i)/√2, whose parts add up to 0
        tensor([1., 0.])
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    x, y = x.to(wide), y.to(wide)
    a, b = x.chunk(2, 1)
    c, d = y.chunk(2, 1)
    turned = (a * c + b * d + b * c - a * d).sum(1)
    norms = x.norm(dim=1) * y.norm(dim=1)
    tiny = torch.finfo(wide).tiny
    return (turned / norms.clamp(min=tiny)).masked_fill(norms <= tiny, 0.0).abs()
