"""Nested embeddings: an objective on several prefixes of every vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import LossOutput, Objective, parts
from inbatch.views import TokenBatch, Views


class Matryoshka(Objective):
    """Add an objective over prefixes of the embeddings: ``Σ_d weight_d · objective(z[:, :d])``.

    Args:
        objective: any that depends on the embeddings alone and has no projector; it normalises each prefix anew.
        dims: lengths of the prefixes, the whole length among them if it shall be trained.
        weights: one a prefix; 1 each if not given.

    Raises:
        UsageError: if the lengths or weights do not fit, or the objective has a projector; when it meets an encoder of fewer
            dimensions.

    Source: Kusupati et al. 2022, arXiv 2205.13147, eq. 1.

    Example:
        >>> from inbatch.losses import InfoNCE
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # the first number alone does not tell the rows apart
        >>> output = Matryoshka(InfoNCE(temperature=1.0), dims=[2, 1])(Views(z, z), None, None)
        >>> round(output.logs["2/loss"].item(), 4), round(output.logs["1/loss"].item(), 4)  # log(1 + 1/e) and log 2
        (0.3133, 0.6931)
    """

    def __init__(self, objective: Objective, dims: Sequence[int], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if (
            not dims
            or min(dims) < 1
            or len(set(dims)) < len(dims)
            or (weights is not None and len(weights) != len(dims))
        ):
            raise UsageError(
                f"expected different, positive dims and as many weights; got dims {list(dims)} and weights "
                f"{None if weights is None else list(weights)}. Set objective.dims and objective.weights."
            )
        for part in parts(objective):
            if part.projector is not None or not part.takes_prefixes:
                remedy = "Set objective.projector to null, or add" if part.takes_prefixes else "Add"
                raise UsageError(
                    f"expected an objective of prefixes of the embedding, without a projector; got {type(part).__name__}"
                    f"{' with one' if part.takes_prefixes else ''}. {remedy} it beside Matryoshka in a WeightedSum."
                )
        self.objective = objective
        self.dims = list(dims)
        self.weights = [1.0] * len(dims) if weights is None else [float(w) for w in weights]

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        if max(self.dims) > encoder.dim:
            raise UsageError(
                f"expected dims of at most {encoder.dim}, the embedding's size; got {max(self.dims)}. Set objective.dims."
            )

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Add the losses of all prefixes, logged under their lengths; other numbers of the objective are those of the longest."""
        outputs = {dim: self.objective(z.map(lambda view: view[:, :dim]), tokens, encoder) for dim in self.dims}  # noqa: B023
        total = torch.stack([weight * outputs[dim].loss for dim, weight in zip(self.dims, self.weights)]).sum()
        logs: dict[str, Tensor | float] = {f"{dim}/loss": output.loss.detach() for dim, output in outputs.items()}
        return LossOutput(total, {**outputs[max(self.dims)].logs, **logs})
