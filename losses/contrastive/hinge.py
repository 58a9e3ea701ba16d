"""PromCSE's energy-based hinge: the positive's cosine stays a margin above that of the hardest negative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import hardest, pair_logits
from inbatch.kernels.rows import take
from inbatch.losses.base import BatchFacts, LossOutput, Objective
from inbatch.losses.candidates import Candidates
from inbatch.losses.contrastive.infonce import unit
from inbatch.losses.contrastive.lone_rows import note
from inbatch.losses.refusals import refuse_scores, require_negatives
from inbatch.views import TokenBatch, Views


class EnergyHinge(Objective):
    """Push the hardest negative of each row, by plain cosine, a margin below its positive.

    The candidates are the other rows' positives and the hard negatives of all rows, the row's own included, of all ranks.

    Args:
        margin: in cosine.
        workspace_bytes: as in `InfoNCE`.

    Raises:
        UsageError: if the margin is not finite; before the first step, if the data has no hard negatives.

    Source: Jiang, Zhang, Wang 2022, arXiv 2203.06875, eq. 5.

    Example:
        >>> z, hard = torch.eye(2), torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
        >>> output = EnergyHinge(margin=0.5)(Views(z, z, (hard,)), None, None)
        >>> round(output.loss.item(), 4), output.logs["active"].item()  # the first row's negative is the hardest of both: 0.6 and 0.8
        (0.2, 1.0)
    """

    in_batch = True

    def __init__(self, margin: float = 0.2, workspace_bytes: int | None = None) -> None:
        super().__init__()
        if not math.isfinite(margin):
            raise UsageError(f"expected a finite margin; got {margin}. Set objective.margin.")
        self.margin = margin
        self.workspace_bytes = workspace_bytes

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        require_negatives(batch, self)
        refuse_scores(batch.some_scored, self)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Normalise and hinge; see `Objective.forward`."""
        ids, z = z.ids, unit(z)
        logs: dict[str, Tensor | float] = {}
        losses, found = energy_hinge(z.anchor, z.positive, z.negatives, self.margin, ids, self.workspace_bytes, logs)
        return LossOutput(found.mean(losses.sum()), {"active": (losses.detach() > 0).float().mean(), **logs})


def energy_hinge(
    anchor: Tensor,
    positive: Tensor,
    negatives: Sequence[Tensor],
    margin: float,
    ids: Views[Tensor] | None = None,
    workspace_bytes: int | None = None,
    logs: dict[str, Any] | None = None,
) -> tuple[Tensor, Candidates]:
    """Compute ``relu(margin + max_j cos(anchor_i, candidate_j) - cos(anchor_i, positive_i))`` of this rank's rows.

    Equals ``relu(margin + (anchor @ cat([positive, *negatives]).T - inf·eye).amax(1) - (anchor * positive).sum(1))`` on one rank,
    without the matrix. The gradient flows through the positive and the hardest candidate.

    Args:
        anchor: (b, d), normalised.
        positive: (b, d), normalised.
        negatives: hard negatives, (b, d) a column.
        margin: in cosine.
        ids: text ids, as for `contrast`.
        workspace_bytes: as in `hardest`.
        logs: takes the number of rows without a negative, see `lone_rows`.

    Returns:
        Losses (b,), 0 for a row without candidates, and what they were held against, whose ``mean`` takes their sum.

    Example:
        >>> z, hard = torch.eye(2), torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
        >>> losses, found = energy_hinge(z, z, [hard], margin=0.3)
        >>> losses  # 0.3 + 0.6 - 1 is below 0, 0.3 + 0.8 - 1 is not
        tensor([0.0000, 0.1000])
    """
    candidates = Candidates.of(Views(anchor, positive, tuple(negatives), ids=ids))
    key = candidates.key
    _, index = hardest(anchor, key, **candidates.rules, workspace_bytes=workspace_bytes)
    found = index[:, 0] >= 0
    note(logs, ~found)
    worst = pair_logits(anchor, take(key, index[:, 0].clamp(min=0)), 1.0)
    gap = margin + worst - pair_logits(anchor, positive, 1.0)
    return torch.relu(gap).masked_fill(~found, 0.0), candidates
