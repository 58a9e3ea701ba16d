"""Heads that stay in the encoder at test; a projector that exists in training only belongs to the objective."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError

Activation = Literal["tanh", "identity"]


class Dense(nn.Module):
    """A linear layer and an activation on the pooled vector; (b, in_features) -> (b, out_features).

    With the defaults it is the pooler of BERT that supervised SimCSE keeps at test. Weights are drawn from N(0, 0.02) with torch's
    global generator, as BERT's are; the bias is zero.

    Args:
        in_features: the backbone's hidden size.
        out_features: None for the same.
        activation: ``tanh``, or ``identity`` for a plain projection.
        bias: whether the linear layer has one.

    Source: Gao et al. 2021, arXiv 2104.08821, section 6.1; ``MLPLayer`` of the released code.
    """

    def __init__(
        self, in_features: int, out_features: int | None = None, activation: Activation = "tanh", bias: bool = True
    ):
        super().__init__()
        if activation not in ("tanh", "identity"):
            raise UsageError(f"expected the activation of a Dense head to be tanh or identity; got {activation!r}")
        self.activation = activation
        self.linear = nn.Linear(in_features, out_features or in_features, bias=bias)
        nn.init.normal_(self.linear.weight, std=0.02)
        if bias:
            nn.init.zeros_(self.linear.bias)

    @property
    def in_features(self) -> int:
        """Size of the vectors it takes."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """Size of the vectors it gives."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; a float32 vector is cast to the dtype of half-precision weights."""
        y = self.linear(x.to(self.linear.weight.dtype))
        return torch.tanh(y) if self.activation == "tanh" else y
