"""A sum of objectives: how a paper's method of several terms is composed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import LossOutput, Objective
from inbatch.views import TokenBatch, Views


class WeightedSum(Objective):
    """Add objectives with constant weights: ``Σ weight · term``.

    Args:
        terms: objectives by name; the name prefixes what each of them logs.
        weights: one number a term; a term that is not named has weight 1.

    Raises:
        UsageError: if there are no terms, or a weight names no term.
    """

    def __init__(self, terms: dict[str, Objective], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        weights = weights or {}
        unknown = sorted(set(weights) - set(terms))
        if not terms or unknown:
            raise UsageError(
                f"expected weights of the terms {sorted(terms)}; got weights for {unknown or 'no terms at all'}"
            )
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Add the terms' losses; each term logs its own loss and numbers under its name."""
        outputs = {name: term(z, tokens, encoder) for name, term in self.terms.items()}
        total = torch.stack([self.weights[name] * output.loss for name, output in outputs.items()]).sum()
        logs: dict[str, Tensor | float] = {}
        for name, output in outputs.items():
            logs[f"{name}/loss"] = output.loss.detach()
            logs |= {f"{name}/{tag}": value for tag, value in output.logs.items()}
        return LossOutput(total, logs)
