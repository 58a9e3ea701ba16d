"""InfoNCE over the in-batch candidates of all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from inbatch.errors import UsageError
from inbatch.kernels import gather, info_nce, pair_logits
from inbatch.kernels.ranks import row_counts, world_size
from inbatch.losses.base import LossOutput, Objective
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
        projector: a module of training only, applied to all views of this rank's rows in one call before the loss.
        workspace_bytes: memory of the loss stage beyond its inputs and gradients; None is the operator's default.

    Raises:
        UsageError: if a number is out of range; and at the first step, if symmetric is combined with false_negative_margin
            on several ranks.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4; Gao et al. 2021, arXiv 2104.08821, eq. 1, 4 and 5.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        learn_temperature: bool = False,
        symmetric: bool = False,
        margin: float = 0.0,
        hard_negative_weight: float = 0.0,
        false_negative_margin: float | None = None,
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
        self.projector = projector
        self.workspace_bytes = workspace_bytes

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
        if z.score is not None:
            raise UsageError(
                "InfoNCE takes every pair as a positive one, but a column of the source was read as scores. "
                "Keep the rows that are positives, then set view: pair and columns: {anchor: NAME, positive: NAME} on the source."
            )
        sizes = [len(view) for view in z]
        stacked = torch.cat(list(z))
        stacked = stacked if self.projector is None else self.projector(stacked)
        stacked = normalize(stacked if stacked.dtype == torch.float64 else stacked.float(), dim=-1)
        z = z.replace_payloads(stacked.split(sizes))
        scale = self.scale()
        loss = contrast(
            z.anchor,
            z.positive,
            z.negatives,
            scale=scale,
            ids=z.ids,
            symmetric=self.symmetric,
            margin=self.margin,
            hard_negative_weight=self.hard_negative_weight,
            false_negative_margin=self.false_negative_margin,
            workspace_bytes=self.workspace_bytes,
        )
        logs: dict[str, Tensor | float] = {
            "positive_similarity": (z.anchor * z.positive).sum(-1).mean().detach(),
            "temperature": 1 / (scale.detach() if isinstance(scale, Tensor) else scale),
        }
        return LossOutput(loss, logs)


def contrast(
    anchor: Tensor,
    positive: Tensor,
    negatives: Sequence[Tensor] = (),
    *,
    scale: Tensor | float,
    ids: Views[Tensor] | None = None,
    symmetric: bool = False,
    margin: float = 0.0,
    hard_negative_weight: float = 0.0,
    false_negative_margin: float | None = None,
    workspace_bytes: int | None = None,
) -> Tensor:
    """Compute the InfoNCE loss of this rank's rows, whose average over ranks is the mean over the global batch.

    Equals ``F.cross_entropy(scale * anchor @ cat([positive, *negatives]).T, arange(b))`` on one rank without options.

    Args:
        anchor: (b, d), normalised.
        positive: (b, d), normalised.
        negatives: hard negatives, (b, d) a column; candidates of all rows.
        scale: 1/temperature.
        ids: text ids of the roles, as `Views.ids`; a candidate whose text is the row's anchor or positive is no negative, and
            neither is a positive whose anchor is.
        symmetric: mean of both directions; hard negatives take part in the row direction only.
        margin: subtracted from the positive's cosine.
        hard_negative_weight: added to the logits of the row's own hard negatives.
        false_negative_margin: drop candidates whose cosine exceeds the positive's by more than this.
        workspace_bytes: see `info_nce`.

    Returns:
        0-d tensor.

    Raises:
        UsageError: if symmetric and false_negative_margin meet on several ranks.
    """
    b, ranks = len(anchor), world_size()
    counts = row_counts(b, anchor.device)
    blocks = [positive, *negatives]
    key = torch.cat([gather(block, counts=counts)[0] for block in blocks]) if len(blocks) > 1 or ranks > 1 else positive
    own = sum(counts[: torch.distributed.get_rank()]) if ranks > 1 else 0

    own_logit = pair_logits(anchor, positive, scale)
    arguments = {"scale": scale, "own": own, "workspace_bytes": workspace_bytes, "reduction": "sum"}
    if margin:
        arguments["positive"] = own_logit - scale * margin
    if false_negative_margin is not None:
        arguments["ceiling"] = (own_logit + scale * false_negative_margin).detach()
    extra = None
    weighted = bool(hard_negative_weight and len(negatives))
    if weighted:
        extra = pair_logits(anchor, torch.stack(list(negatives), 1), scale)
        extra = extra.masked_fill(_excluded(extra, ids, arguments.get("ceiling")), -torch.inf) + hard_negative_weight
    if ids is None and weighted:
        ids = _positions(b, own, sum(counts), len(negatives), anchor.device)
    query_ids, key_ids = (None, None) if ids is None else _id_sets(ids, counts, weighted)

    if ranks == 1 or not symmetric:
        total = info_nce(
            anchor, key, query_ids=query_ids, key_ids=key_ids, extra=extra, symmetric=symmetric, **arguments
        )
    else:
        if false_negative_margin is not None:
            raise UsageError(
                "symmetric with false_negative_margin works on one rank only: a row's ceiling would have to reach the columns of "
                f"other ranks; got {ranks} ranks. Set objective.symmetric or objective.false_negative_margin to its default."
            )
        # The columns of this rank's keys, scored against the queries of all ranks over the same candidate pairs.
        arguments["positive"] = arguments.get("positive", own_logit)
        queries = gather(anchor, counts=counts)[0]
        rows = info_nce(anchor, key, query_ids=query_ids, key_ids=key_ids, extra=extra, **arguments)
        if query_ids is None or key_ids is None:
            columns = info_nce(positive, queries, **arguments)
        else:
            every_query = gather(query_ids, counts=counts)[0]
            columns = info_nce(positive, queries, query_ids=key_ids[own : own + b], key_ids=every_query, **arguments)
        total = (rows + columns) / 2
    return total * ranks / max(1, sum(counts))


def _excluded(own: Tensor, ids: Views[Tensor] | None, ceiling: Tensor | None) -> Tensor:
    """Say which of the rows' own hard negatives, (b, k) logits, are no negatives by the rules of `info_nce`: (b, k) bool."""
    out = torch.zeros_like(own, dtype=torch.bool)
    if ids is not None:
        texts = torch.stack(list(ids.negatives), 1)
        out = (texts == ids.anchor[:, None]) | (texts == ids.positive[:, None]) | (texts == -1)
    return out if ceiling is None else out | (own.detach() > ceiling[:, None])


def _id_sets(ids: Views[Tensor], counts: list[int], weighted: bool) -> tuple[Tensor, Tensor]:
    """Build the id sets of `info_nce`: queries {anchor, positive}, keys {positive, anchor}, hard negatives their own id twice."""
    own_negatives = list(ids.negatives) if weighted else []
    queries = torch.stack([ids.anchor, ids.positive, *own_negatives], 1)
    pairs = [torch.stack([ids.positive, ids.anchor], 1), *(torch.stack([n, n], 1) for n in ids.negatives)]
    return queries, torch.cat([gather(pair, counts=counts)[0] for pair in pairs])


def _positions(b: int, own: int, rows: int, negatives: int, device: torch.device) -> Views[Tensor]:
    """Number every key of the global batch, so that only a row's own keys are equal to it."""
    first = torch.arange(own, own + b, device=device)
    return Views(first, first, tuple(first + rows * (column + 1) for column in range(negatives)))
