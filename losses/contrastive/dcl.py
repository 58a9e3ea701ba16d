"""Decoupled contrastive learning: InfoNCE whose denominator leaves the positive out."""

from __future__ import annotations

from torch import Tensor, nn

from inbatch.kernels import log_sum, pair_logits
from inbatch.losses.base import BatchFacts, LossOutput, Objective, project
from inbatch.losses.candidates import Candidates
from inbatch.losses.contrastive.infonce import similarity_logs, unit
from inbatch.losses.contrastive.lone_rows import note
from inbatch.losses.refusals import refuse_batch_norm_of_one_row, refuse_scores, require_positive
from inbatch.views import TokenBatch, Views


class DCL(Objective):
    """InfoNCE without the positive in the denominator: ``mean_i(-s_ii + log Σ_{j≠i} e^{s_ij})``, over candidates of all ranks.

    Rows without a candidate have loss 0. Arguments are those of `OwnNegatives`; rows may lack hard negatives, and those of all rows are
    candidates. Scores are refused, and so is a projector with batch norm where a rank has one row.

    Source: Yeh et al. 2022, arXiv 2110.06848, the loss L_DC; other rows' anchors are no candidates here.

    Example:
        >>> import torch
        >>> z = Views(torch.eye(2), torch.eye(2))
        >>> DCL(temperature=0.5)(z, None, None).loss  # -2 of the positive, and log e^0 of the only negative
        tensor(-2.)
    """

    in_batch = True

    def __init__(self, temperature: float = 0.1, projector: nn.Module | None = None) -> None:
        super().__init__()
        require_positive(temperature, "objective.temperature")
        self.temperature = temperature
        self.projector = projector

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_batch_norm_of_one_row(self.projector, batch)
        refuse_scores(batch.some_scored, self)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Project, normalise in float32 and contrast; see `Objective.forward`."""
        z, scale = unit(project(z, self.projector)), 1 / self.temperature
        found, logs = Candidates.of(z), similarity_logs(z, scale)
        denominator = log_sum(z.anchor, found.key, scale=scale, **found.rules)
        note(logs, alone := denominator.detach().isneginf())
        losses = (denominator - pair_logits(z.anchor, z.positive, scale)).masked_fill(alone, 0.0)
        return LossOutput(found.mean(losses.sum()), logs)
