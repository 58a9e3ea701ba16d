"""InfoNCE over the in-batch candidates of all ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, LossOutput, Objective, project
from inbatch.losses.contrastive.contrast import contrast
from inbatch.losses.refusals import (
    refuse_batch_norm_of_one_row,
    refuse_scores,
    refuse_several_scores,
    require_negatives,
)
from inbatch.norms import unit_rows
from inbatch.views import TokenBatch, Views

# A learnt scale stays at or below 100, as in CLIP (Radford et al. 2021, arXiv 2103.00020, section 2.5).
LARGEST_SCALE = 100.0


class InfoNCE(Objective):
    """Contrast each anchor's positive with all other rows' positives and with the hard negatives of all rows.

    One class serves SimCSE's two settings, multiple-negatives ranking and CLIP's symmetric form. With several ranks the candidates
    are those of all ranks and the gradient is that of the global mean.

    Args:
        temperature: divides the cosine; the initial one if it is learnt.
        learn_temperature: make log(1/temperature) a parameter.
        symmetric: also contrast each positive with all anchors; the mean of both directions.
        margin: subtracted from the positive's cosine (additive margin, Yang et al. 2019, arXiv 1902.08564).
        hard_negative_weight: added to the logit of a row's own hard negatives: the *logarithm* of their weight (SimCSE's alpha).
        false_negative_margin: drop candidates whose cosine exceeds the positive's by more than this; None keeps all.
        positive_score: rows whose score is lower are no positives: they have no loss of their own, and their texts stay
            candidates of the others. Needs a column of scores, which is refused without it.
        projector: a module of training only, applied to all views of this rank's rows in one call before the loss.
        workspace_bytes: memory of the loss stage beyond its inputs and gradients; None is the operator's default.

    Raises:
        UsageError: if a number is out of range; and at the first step, if symmetric is combined with false_negative_margin
            on several ranks.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4; Gao et al. 2021, arXiv 2104.08821, eq. 1, 4 and 5.

    Example:
        >>> z, objective = torch.eye(2), InfoNCE(temperature=0.5)
        >>> round(objective(Views(z, z), None, None).loss.item(), 4)  # log(1 + e^-2)
        0.1269
        >>> round(objective(Views(z, z, (-z,)), None, None).loss.item(), 4)  # hard negatives of cosines -1 and 0: log(1 + 2e^-2 + e^-4)
        0.2539
    """

    in_batch = True

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        symmetric: bool = False,
        margin: float = 0.0,
        hard_negative_weight: float = 0.0,
        false_negative_margin: float | None = None,
        positive_score: float | None = None,
        projector: nn.Module | None = None,
        workspace_bytes: int | None = None,
    ) -> None:
        super().__init__()
        lowest = 1 / LARGEST_SCALE if learn_temperature else 0.0
        if not (math.isfinite(temperature) and temperature > 0 and temperature >= lowest):
            raise UsageError(
                f"expected a finite temperature {f'>= {lowest}, as it is learnt' if lowest else '> 0'}; got {temperature}. "
                "Set objective.temperature, e.g. 0.05."
            )
        if not (math.isfinite(margin) and math.isfinite(hard_negative_weight)):
            raise UsageError(
                f"expected finite margin and hard_negative_weight; got {margin} and {hard_negative_weight}. "
                "Set objective.margin and objective.hard_negative_weight."
            )
        if false_negative_margin is not None and math.isnan(false_negative_margin):
            raise UsageError(
                "expected false_negative_margin as a number or null; got nan. Set objective.false_negative_margin."
            )
        log_scale = torch.tensor(-math.log(temperature))
        self.temperature = temperature
        self.log_scale = nn.Parameter(log_scale) if learn_temperature else None
        self.symmetric = symmetric
        self.margin = margin
        self.hard_negative_weight = hard_negative_weight
        self.false_negative_margin = false_negative_margin
        self.positive_score = positive_score
        self.projector = projector
        self.workspace_bytes = workspace_bytes

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_batch_norm_of_one_row(self.projector, batch)
        self._check_scores(batch.some_scored if self.positive_score is None else batch.scored)
        refuse_several_scores(batch.most_scores, self)
        if self.hard_negative_weight:
            require_negatives(batch, self)

    def _check_scores(self, scored: bool) -> None:
        if self.positive_score is None:
            refuse_scores(scored, self)
        elif not scored:
            raise UsageError(
                "objective.positive_score asks for a column of scores; the source has none. Set columns: {..., score: NAME}."
            )

    def scale(self) -> Tensor | float:
        """Return 1/temperature; a 0-d tensor with gradient if it is learnt."""
        if self.log_scale is None:
            return 1 / self.temperature
        # The parameter is held, not the value: a value beyond its bound would have no gradient to come back with.
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.log_scale.exp()

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Project, normalise in float32 and contrast; see `Objective.forward`.

        Raises:
            UsageError: if the rows carry scores, which would be ignored: a pair of score 0 would be trained as a positive.
        """
        self._check_scores(z.score is not None)
        refuse_several_scores(z.score, self)
        z = unit(project(z, self.projector))
        scale = self.scale()
        logs: dict[str, Tensor | float] = {}
        loss = contrast(
            z.anchor,
            z.positive,
            z.negatives,
            scale=scale,
            ids=z.ids,
            symmetric=self.symmetric,
            margin=self.margin,
            hard_negative_weight=self.own_negative_weight(z, tokens, scale),
            false_negative_margin=self.false_negative_margin,
            weight=None if self.positive_score is None else (z.score >= self.positive_score).to(z.anchor.dtype),
            workspace_bytes=self.workspace_bytes,
            logs=logs,
            **self.further(z),
        )
        return LossOutput(loss, {**similarity_logs(z, scale), **logs})

    def own_negative_weight(self, z: Views[Tensor], tokens: Views[TokenBatch], scale: Tensor | float) -> float | Tensor:
        """Return what is added to the logits of the rows' own hard negatives: a number, or a constant (b, k)."""
        return self.hard_negative_weight

    def further(self, z: Views[Tensor]) -> dict[str, Tensor]:
        """Return candidates beyond those of the batch: `contrast`'s ``further`` and ``further_ids``, or nothing."""
        return {}


def similarity_logs(z: Views[Tensor], scale: Tensor | float) -> dict[str, Tensor | float]:
    """Return what contrasts of normalised embeddings log: the positives' mean cosine, and the temperature.

    Example:
        >>> z = Views(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
        >>> similarity_logs(z, scale=20.0)
        {'positive_similarity': tensor(0.8000), 'temperature': 0.05}
    """
    return {
        "positive_similarity": (z.anchor * z.positive).sum(-1).mean().detach(),
        "temperature": 1 / (scale.detach() if isinstance(scale, Tensor) else scale),
    }


def unit(z: Views[Tensor]) -> Views[Tensor]:
    """Divide every embedding by its norm, in float32 (float64 for float64).

    Example:
        >>> z = unit(Views(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]])))
        >>> z.anchor, z.positive  # a vector of zeros stays
        (tensor([[0.6000, 0.8000]]), tensor([[0., 0.]]))
    """
    return z.map(unit_rows)
