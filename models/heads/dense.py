"""Heads that stay in the encoder at test; a projector that exists in training only belongs to the objective."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.spelling import require_choice

Activation = Literal["tanh", "identity"]
Draw = Literal["bert", "torch"]


class _OneLinear(nn.Module):
    """What has one linear layer, and so the sizes of it."""

    linear: nn.Linear

    @property
    def in_features(self) -> int:
        """Size of the vectors it takes."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """Size of the vectors it gives."""
        return self.linear.out_features


class Dense(_OneLinear):
    """A linear layer and an activation on the pooled vector; (b, in_features) -> (b, out_features).

    With the defaults it is the pooler of BERT that supervised SimCSE keeps at test.

    Args:
        in_features: the backbone's hidden size.
        out_features: None for the same.
        activation: ``tanh``, or ``identity`` for a plain projection.
        bias: whether the linear layer has one.
        draw: of the weights, by torch's global generator: ``bert``: N(0, 0.02) and a bias of 0; ``torch``: as `nn.Linear` does, which
            is what GCSE's release has.

    Raises:
        UsageError: if activation or draw is unknown.

    Source: Gao et al. 2021, arXiv 2104.08821, section 6.1; ``MLPLayer`` of the released code.

    Example:
        >>> Dense(4, 2)(torch.ones(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        activation: Activation = "tanh",
        bias: bool = True,
        draw: Draw = "bert",
    ):
        super().__init__()
        require_choice(draw, get_args(Draw), "head.draw")
        require_choice(activation, ("tanh", "identity"), "head.activation")
        self.activation: Activation = activation
        self.linear = nn.Linear(in_features, out_features or in_features, bias=bias)
        if draw == "bert":
            nn.init.normal_(self.linear.weight, std=0.02)
            if bias:
                nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; a float32 vector is cast to the dtype of half-precision weights."""
        y = self.linear(x.to(self.linear.weight.dtype))
        return torch.tanh(y) if self.activation == "tanh" else y


class MLMTransform(_OneLinear):
    """The transform of a masked language model's head as a head of the embedding: linear, GELU, layer norm; (b, h) -> (b, h).

    Args:
        in_features: the backbone's hidden size.
        name: take the weights of this masked language model (BERT); None draws them as BERT's are.
        eps: of the layer norm; BERT's own.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if its head has no such transform, or another size.

    Source: Jiang et al. 2022, arXiv 2201.04337: ``org_mlp`` of the released code, which supervised PromptBERT keeps at test.

    Example:
        >>> MLMTransform(4)(torch.ones(3, 4)).shape
        torch.Size([3, 4])
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
        from inbatch.models.networks.masked_lm import PretrainedHead

        transform = getattr(getattr(PretrainedHead(name).head, "predictions", None), "transform", None)
        if transform is None or transform.dense.weight.shape != self.linear.weight.shape:
            raise UsageError(
                f"expected a masked language model with BERT's transform of size {self.in_features}; {name} has none. Set head.name "
                "to null, or to the BERT of the backbone."
            )
        self.linear.load_state_dict(transform.dense.state_dict())
        self.norm.load_state_dict(transform.LayerNorm.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.norm(nn.functional.gelu(self.linear(x.to(self.linear.weight.dtype))))


# What an encoder may have after its pooling, and an export can describe.
HEADS = (Dense, MLMTransform)
