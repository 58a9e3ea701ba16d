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


class MLMTransform(nn.Module):
    """The transform of a masked language model's head as a head of the embedding: linear, GELU, layer norm; (b, h) -> (b, h).

    Args:
        in_features: the backbone's hidden size.
        name: take the weights of this masked language model (BERT); None draws them as BERT's are.
        eps: of the layer norm; BERT's own.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if its head has no such transform, or another size.

    Source: Jiang et al. 2022, arXiv 2201.04337: ``org_mlp`` of the released code, which supervised PromptBERT keeps at test.
    """

    def __init__(self, in_features: int, name: str | None = None, eps: float = 1e-12) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, in_features)
        self.norm = nn.LayerNorm(in_features, eps=eps)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        if name is not None:
            self._take(name)

    def _take(self, name: str) -> None:
        from inbatch.models.masked_lm import PretrainedHead

        transform = getattr(getattr(PretrainedHead(name).head, "predictions", None), "transform", None)
        if transform is None or transform.dense.weight.shape != self.linear.weight.shape:
            raise UsageError(
                f"expected a masked language model with BERT's transform of size {self.in_features}; {name} has none. Set head.name "
                "to null, or to the BERT of the backbone."
            )
        self.linear.load_state_dict(transform.dense.state_dict())
        self.norm.load_state_dict(transform.LayerNorm.state_dict())

    @property
    def in_features(self) -> int:
        """Size of the vectors it takes."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """Size of the vectors it gives."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.norm(nn.functional.gelu(self.linear(x.to(self.linear.weight.dtype))))


# What an encoder may have after its pooling, and an export can describe.
HEADS = (Dense, MLMTransform)
