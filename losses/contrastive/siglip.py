"""SigLIP's sigmoid loss: every pair is a yes-or-no question of its own, without a softmax over the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from inbatch.errors import UsageError
from inbatch.kernels import pair_logits, sum_over_pairs
from inbatch.losses.base import BatchFacts, LossOutput, Objective
from inbatch.losses.candidates import Candidates
from inbatch.losses.contrastive.infonce import similarity_logs, unit
from inbatch.losses.refusals import refuse_scores, require_positive
from inbatch.views import TokenBatch, Views


class SigLIP(Objective):
    """``-1/b Σ_ij log sigmoid(y_ij (t cos_ij + b))`` with y = 1 for a row's own positive, else -1, over candidates of all ranks.

    Args:
        temperature: 1/t at the start; log t is learnt.
        bias: b at the start, learnt: far below 0, as nearly all pairs are negatives.

    Raises:
        UsageError: if a number is out of range; before the first step, if the data has scores.

    Source: Zhai et al. 2023, arXiv 2303.15343, section 3.2 and algorithm 1; pairs of equal texts are left out, as `info_nce` does.

    Example:
        >>> z = Views(torch.eye(2), torch.eye(2))
        >>> round(SigLIP(temperature=1.0, bias=0.0)(z, None, None).loss.item(), 4)  # log(1 + 1/e) of its positive, log 2 of the other
        1.0064
    """

    in_batch = True

    def __init__(self, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        require_positive(temperature, "objective.temperature")
        if not math.isfinite(bias):
            raise UsageError(f"expected a finite bias; got {bias}. Set objective.bias.")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_scores(batch.some_scored, self)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Normalise in float32 and add up over all pairs; see `Objective.forward`."""
        z, scale, bias = unit(z), self.log_scale.exp(), self.bias
        found = Candidates.of(z)
        negatives = sum_over_pairs(z.anchor, found.key, _no, parameters=(scale, bias), **found.rules)
        positives = softplus(-pair_logits(z.anchor, z.positive, scale) - bias).sum()
        logs = {**similarity_logs(z, scale), "bias": bias.detach()}
        return LossOutput(found.mean(negatives + positives), logs)


def _no(cosines: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return softplus(scale * cosines + bias)
