"""Projectors that exist in training only; a head that stays at test is a `Dense`."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNormProjector(nn.Module):
    """Two linear layers with batch norm, (n, h) -> (n, h), whose statistics are those of all rows of the call.

    ``Linear(h, 2h) → BatchNorm → ReLU → Linear(2h, h) → BatchNorm without scale and shift``; no biases in the linear layers.
    Under several ranks each has its own statistics; ``trainer.sync_batchnorm: true`` makes them global.

    Args:
        in_features: the backbone's hidden size h.

    Source: Chuang et al. 2022, arXiv 2204.10298, appendix; weights are drawn from N(0, 0.02), as released.

    Example:
        >>> import torch
        >>> BatchNormProjector(4)(torch.rand(3, 4)).shape
        torch.Size([3, 4])
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = self.out_features = in_features
        wide = 2 * in_features
        self.layers = nn.Sequential(
            nn.Linear(in_features, wide, bias=False),
            nn.BatchNorm1d(wide),
            nn.ReLU(),
            nn.Linear(wide, in_features, bias=False),
            nn.BatchNorm1d(in_features, affine=False),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Project; needs at least two rows in training. Vectors are cast to the dtype of half-precision weights."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        return self.layers(x.to(first.weight.dtype))
