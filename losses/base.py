"""The contract of every objective: embeddings of all views in, one differentiable scalar and numbers to log out."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from inbatch.views import TokenBatch, Views


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns.

    Attributes:
        loss: 0-d tensor with gradient. Averaging it over ranks, as DDP averages gradients, gives the loss of the global batch.
        logs: detached numbers for the logger, by tag (without the ``train/`` prefix).
    """

    loss: Tensor
    logs: dict[str, Tensor | float] = field(default_factory=dict)


class Objective(nn.Module):
    """Base class of all objectives.

    An objective sees the whole batch of this rank at once. It owns what exists in training only (projectors, side networks,
    learnt temperatures), never the encoder: the live encoder is passed at each call, for terms that run it again.
    """

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Compute the loss of one batch.

        Args:
            z: embeddings of this rank's rows, (b, d) each.
            tokens: the same rows as tokens.
            encoder: the live encoder; its parameters are not the objective's.
        """
        raise NotImplementedError
