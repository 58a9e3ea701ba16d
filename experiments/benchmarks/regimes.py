"""Embeddings on which a contrastive loss behaves differently: what errors and data-dependent kernels must be looked at on."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

REGIMES = ("random", "flat", "clustered", "converged")


def embeddings(regime: str, rows: int, dim: int, scale: float, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make queries and keys, (rows, dim) each, normalised, float32 with bfloat16's digits, so that every dtype sees the same.

    Args:
        regime: "random": independent queries, positives at a cosine of 0.45. "flat": all share a direction, cosines about 0.8, as
            before training. "clustered": 64 topics, negatives of a topic are hard. "converged": positives so close that the mean
            loss is about 1e-6, where float32 autograd has lost the digits of its gradient.
        rows: of either side.
        dim: of an embedding.
        scale: 1/temperature, which decides how close "converged" is.
        device: where the embeddings go; they are drawn on the CPU, so that all devices see the same.
        seed: of the draws.

    Raises:
        ValueError: for an unknown regime.

    Example:
        >>> q, k = embeddings("random", rows=1000, dim=256, scale=20.0, device="cpu")
        >>> round((q * k).sum(1).mean().item(), 2)  # cosine of a query and its positive
        0.45
    """
    rng = torch.Generator().manual_seed(seed)

    def noise(count: int = rows) -> Tensor:
        return normalize(torch.randn(count, dim, generator=rng), dim=1)

    near = 0.45
    if regime == "random":
        q = noise()
    elif regime == "flat":
        q = normalize(2 * noise(1) + noise(), dim=1)
    elif regime == "clustered":
        q = normalize(1.5 * noise(64)[torch.randint(64, (rows,), generator=rng)] + noise(), dim=1)
    elif regime == "converged":
        q = noise()
        # A negative's logit is about normal with deviation scale/√d: log Σ ≈ log n + scale²/2d; the positive stands 13.8 above.
        near = min(0.9999, (math.log(max(1, rows)) + scale**2 / (2 * dim) + 13.8) / scale)
    else:
        raise ValueError(f"expected a regime of {', '.join(REGIMES)}; got {regime!r}")
    k = normalize(near * q + math.sqrt(1 - near**2) * noise(), dim=1)
    return q.bfloat16().float().to(device), k.bfloat16().float().to(device)
