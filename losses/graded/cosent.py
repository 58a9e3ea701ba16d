"""CoSENT: rank scored pairs by their cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import gather
from inbatch.kernels.rows import take
from inbatch.losses.base import BatchFacts, LossOutput, Objective
from inbatch.losses.contrastive.infonce import unit
from inbatch.losses.refusals import refuse_several_scores
from inbatch.views import TokenBatch, Views


class CoSENT(Objective):
    """Every pair of a batch should be more similar than every pair of a lower score, over all ranks.

    Args:
        scale: λ, of the differences.

    Raises:
        UsageError: if the scale is not positive; before the first step, if the data has no scores.

    Source: J. Su 2022, "CoSENT: a more efficient sentence vector scheme than sentence-BERT" (kexue.fm/archives/8847); equals
    sentence-transformers' ``CoSENTLoss``.

    Example:
        >>> z, other = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # cosines 1 and 0
        >>> pairs = [Views(z, other, score=torch.tensor(scores)) for scores in ([5.0, 1.0], [1.0, 5.0])]
        >>> [round(CoSENT(scale=1.0)(pair, None, None).loss.item(), 4) for pair in pairs]  # log(1 + 1/e) and, in wrong order, log(1 + e)
        [0.3133, 1.3133]
    """

    def __init__(self, scale: float = 20.0) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise UsageError(f"expected a finite scale > 0; got {scale}. Set objective.scale.")
        self.scale = scale

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        if not batch.scored:
            raise UsageError(
                f"{type(self).__name__} expects a score in every row; the data has none. Give data.sources a column of scores "
                "(columns: {anchor: NAME, positive: NAME, score: NAME})."
            )
        refuse_several_scores(batch.most_scores, self)

    def similarity(self, z: Views[Tensor]) -> Tensor:
        """Return what is ranked, (b,): the cosine."""
        z = unit(z)
        return (z.anchor * z.positive).sum(-1)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Rank the pairs of all ranks; see `Objective.forward`."""
        similarity = gather(self.similarity(z))[0]
        refuse_several_scores(z.score, self)
        return LossOutput(ranking(similarity, gather(z.score)[0], self.scale))


def ranking(similarity: Tensor, score: Tensor, scale: float) -> Tensor:
    """Compute ``log(1 + Σ_{score_i < score_j} exp(scale · (similarity_i - similarity_j)))``, in O(n log n), ties exact.

    Args:
        similarity: (n,).
        score: (n,); only their order counts.
        scale: λ.

    Returns:
        0-d tensor; 0 where no score is lower than another.

    Example:
        >>> similarity = torch.tensor([0.75, 0.25])
        >>> round(ranking(similarity, torch.tensor([5.0, 1.0]), scale=2.0).item(), 4)  # log(1 + 1/e)
        0.3133
        >>> ranking(similarity, torch.tensor([3.0, 3.0]), scale=2.0)  # no pair is to be above the other
        tensor(0.)
    """
    score, order = score.sort()
    s = scale * similarity[order]
    # Of each pair, those that score strictly lower are the first so many in the order.
    lower = torch.searchsorted(score, score)
    has = lower > 0
    if not bool(has.any()):
        return s.sum() * 0.0
    terms = take(s.logcumsumexp(0), lower[has] - 1) - s[has]
    return torch.cat([terms.new_zeros(1), terms]).logsumexp(0)
