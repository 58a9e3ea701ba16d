"""InfoNCE over the hard negatives of the row alone: batches whose rows are no negatives of each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inbatch.kernels import info_nce, pair_logits
from inbatch.losses.base import BatchFacts, LossOutput, Objective, mean_over_ranks, project
from inbatch.losses.candidates import own_repeats
from inbatch.losses.contrastive.infonce import unit
from inbatch.losses.contrastive.lone_rows import note
from inbatch.losses.refusals import refuse_batch_norm_of_one_row, refuse_scores, require_negatives, require_positive
from inbatch.views import TokenBatch, Views


class OwnNegatives(Objective):
    """Contrast each anchor's positive with the row's own hard negatives.

    Equals ``F.cross_entropy(scale * torch.stack([a @ p, a @ n_1, …]), 0)`` a row. It is for tasks whose other rows may well be
    positives, as labels and clusters are: NV-Embed's second stage.

    Args:
        temperature: divides the cosine.
        projector: a module of training only, applied to all views of this rank's rows in one call before the loss.

    Raises:
        UsageError: if the temperature is not positive; before the first step, if rows lack a hard negative or have scores, or the projector
            has a batch norm and a rank one row.

    Source: Lee et al. 2024, arXiv 2405.17428, section 3.3.

    Example:
        >>> z, hard = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # two rows of one label
        >>> output = OwnNegatives(temperature=1.0)(Views(z, z, (hard,)), None, None)
        >>> round(output.loss.item(), 4)  # log(1 + 1/e): the other row's positive is no negative
        0.3133
    """

    def __init__(self, temperature: float = 0.05, projector: nn.Module | None = None) -> None:
        super().__init__()
        require_positive(temperature, "objective.temperature")
        self.temperature = temperature
        self.projector = projector

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_batch_norm_of_one_row(self.projector, batch)
        refuse_scores(batch.some_scored, self)
        require_negatives(batch, self)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Project, normalise in float32 and contrast; see `Objective.forward`."""
        z = unit(project(z, self.projector))
        scale = 1 / self.temperature
        positive = pair_logits(z.anchor, z.positive, scale)
        own = pair_logits(z.anchor, torch.stack(list(z.negatives), 1), scale)
        if z.ids is not None:  # a hard negative that is the row's anchor or positive is none
            own = own.masked_fill(own_repeats(z.ids), -torch.inf)
        total = info_nce(z.anchor, z.anchor[:0], scale=scale, own=None, positive=positive, extra=own, reduction="sum")
        loss = mean_over_ranks(total, total.new_tensor(len(positive)))
        logs: dict[str, Tensor | float] = {
            "positive_similarity": positive.mean().detach() / scale,
            "margin": _margin(positive, own, scale),
        }
        note(logs, own.detach().isneginf().all(1))
        return LossOutput(loss, logs)


def _margin(positive: Tensor, own: Tensor, scale: float) -> Tensor:
    """Average the cosine of the positive over that of the nearest hard negative, over the rows that have one."""
    gap = (positive - own.amax(1)).detach() / scale
    there = gap.isfinite()
    return gap.masked_fill(~there, 0.0).sum() / there.sum().clamp(min=1)
