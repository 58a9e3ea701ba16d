"""GISTEmbed: a guide model says which in-batch candidates are no negatives; four blocks of candidates in one denominator."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import info_nce, log_sum, pair_logits
from inbatch.losses.base import BatchFacts, LossOutput, Objective
from inbatch.losses.candidates import Candidates
from inbatch.losses.contrastive.infonce import similarity_logs, unit
from inbatch.losses.contrastive.lone_rows import lone_rows, note
from inbatch.losses.refusals import refuse_scores, require_positive, require_same_tokens
from inbatch.losses.side_networks import embed_frozen
from inbatch.spelling import require_choice
from inbatch.views import TokenBatch, Views

MarginKind = Literal["absolute", "relative"]


class Guided(Objective):
    """InfoNCE over anchor-positive, anchor-anchor, positive-positive and anchor-negative pairs, false negatives left out.

    A candidate is dropped where the guide rates the pair above its rating of the row's own positive, less a margin.

    Args:
        guide: a frozen encoder, `inbatch.models.networks.reference.Reference`, of the live one's tokens.
        temperature: divides the cosine.
        margin: by which a candidate must stay below the positive, in the guide's cosine.
        margin_kind: ``absolute``: positive - margin; ``relative``: positive - |positive| · margin.
        workspace_bytes: as in `InfoNCE`.

    Raises:
        UsageError: if a number is out of range; when it meets the encoder, if the guide reads other tokens.

    Source: Solatorio 2024, arXiv 2402.16829; equals sentence-transformers' ``GISTEmbedLoss`` with contrast_anchors and
    contrast_positives.

    Example:
        >>> z, rated = torch.eye(2), torch.ones(2, 1)  # by the guide all texts are alike
        >>> guide = nn.Identity()  # in place of a network: the texts are given as its embeddings
        >>> terms = [Guided(guide, margin=margin) for margin in (0.0, 0.1)]  # no candidate is above the positive; none is 0.1 below it
        >>> [int(term(Views(z, z), Views(rated, rated), None).logs["rows_without_negatives"]) for term in terms]
        [0, 2]
    """

    in_batch = True
    passes = "the guide"

    def __init__(
        self,
        guide: nn.Module,
        temperature: float = 0.01,
        margin: float = 0.0,
        margin_kind: MarginKind = "absolute",
        workspace_bytes: int | None = None,
    ) -> None:
        super().__init__()
        require_positive(temperature, "objective.temperature")
        if not math.isfinite(margin):
            raise UsageError(f"expected a finite margin; got {margin}. Set objective.margin.")
        require_choice(margin_kind, get_args(MarginKind), "objective.margin_kind")
        self.guide = guide
        self.temperature = temperature
        self.margin = margin
        self.margin_kind: MarginKind = margin_kind
        self.workspace_bytes = workspace_bytes

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        require_same_tokens(self.guide, encoder, "objective.guide")

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        refuse_scores(batch.some_scored, self)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Let the guide embed the batch, and contrast; see `Objective.forward`."""
        with torch.no_grad():
            guide = unit(z.replace_payloads([embed_frozen(self.guide, view, self.chunk_tokens) for view in tokens]))
            own = pair_logits(guide.anchor, guide.positive, 1.0)
            ceiling = own - self.margin * (1 if self.margin_kind == "absolute" else own.abs())
        z, scale = unit(z), 1 / self.temperature
        logs: dict[str, Tensor | float] = {}
        loss = guided_contrast(z, guide, ceiling, scale, self.workspace_bytes, logs)
        return LossOutput(loss, {**similarity_logs(z, scale), **logs})


def guided_contrast(
    z: Views[Tensor],
    guide: Views[Tensor],
    ceiling: Tensor,
    scale: float,
    workspace_bytes: int | None = None,
    logs: dict[str, Any] | None = None,
) -> Tensor:
    """Compute the loss of this rank's rows, whose average over ranks is the mean over the global batch.

    Equals the cross entropy of ``scale · [a pᵀ | a aᵀ | p pᵀ | a nᵀ]`` with -inf where the guide's cosine lies above the row's
    ceiling, the row's own positive excepted, and on what a row is to itself.

    Args:
        z: embeddings, (b, d) a view, normalised; with ids or without.
        guide: the guide's, (b, g) a view, normalised.
        ceiling: (b,) cosines of the guide.
        scale: 1/temperature.
        workspace_bytes: as in `info_nce`.
        logs: takes the number of rows without a negative, see `lone_rows`.

    Returns:
        0-d tensor.

    Example:
        >>> z = Views(torch.eye(2), torch.eye(2))
        >>> round(guided_contrast(z, z, ceiling=torch.ones(2), scale=1.0).item(), 4)  # log(1 + 3/e): the other row is there three times
        0.7437
        >>> guided_contrast(z, z, ceiling=torch.tensor([-0.1, -0.1]), scale=1.0)  # all of them lie above the ceiling
        tensor(0.)
    """
    shared: dict[str, Any] = {"scale": scale, "workspace_bytes": workspace_bytes}
    texts = None if z.ids is None else Views(z.ids.anchor, z.ids.positive)
    among = Candidates.of(Views(z.positive, z.positive, ids=texts))
    guiding = (guide.positive, among.gather(guide.positive), ceiling)
    positives = log_sum(z.positive, among.key, **among.rules, guide=guiding, **shared)

    found = Candidates.of(z, anchors=True)
    guiding = (guide.anchor, found.gather(guide.positive, guide.anchor, *guide.negatives), ceiling)
    extra = positives[:, None]
    if logs is not None:
        note(logs, lone_rows(z.anchor, found.key, **found.rules, guide=guiding, extra=extra.detach()))
    total = info_nce(z.anchor, found.key, **found.rules, guide=guiding, extra=extra, reduction="sum", **shared)
    return found.mean(total)
