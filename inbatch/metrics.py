"""How well embeddings order things: Spearman correlation, and MRR, recall@k and nDCG@k from the ranks of the relevant documents.

Everything is scored in float32 whatever the embeddings' dtype: bf16 scores tie so often that rank metrics change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inbatch.errors import TrainingError, UsageError

SCORE_ROUNDING = 1e-6
"""Scores closer than this, relative to the norms, are ties: a float32 dot product is not known better, and equal documents in
different columns of one matrix product may differ by it."""


def average_ranks(values: Tensor) -> Tensor:
    """Rank (n,) values from 1, ties sharing their mean rank; float64, as ``scipy.stats.rankdata``."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts.double() - 1) / 2)[place]


def spearman(first: Tensor, second: Tensor) -> float:
    """Correlate the ranks of two (n,) tensors; ties get their mean rank.

    Equivalent to ``scipy.stats.spearmanr(first, second).statistic``: in [-1, 1], and NaN where one of them is constant.

    Raises:
        UsageError: if the shapes differ or there are fewer than two values.
        TrainingError: if a value is NaN; infinities are ranked as any other number.
    """
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise UsageError(
            f"expected two vectors of one length of at least 2; got shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.isnan().any() or second.isnan().any():
        raise TrainingError("expected numbers to correlate; some are NaN. Check that the model's weights are finite.")
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(first), average_ranks(second)))
    return float((x @ y / (x.norm() * y.norm())).clamp(-1, 1))


def require_finite(embeddings: Tensor, what: str = "embeddings") -> Tensor:
    """Return (n, d) embeddings unchanged, or name the first row that holds NaN or infinity.

    A comparison with NaN is false, so that a broken model would otherwise rank every relevant document first.

    Raises:
        TrainingError: if a number is not finite.
    """
    broken = (~embeddings.isfinite().all(1)).nonzero().flatten()
    if len(broken):
        raise TrainingError(
            f"expected finite {what}; {len(broken)} of {len(embeddings)} rows hold NaN or infinity, the first is row "
            f"{int(broken[0])}. Check that the model's weights are finite."
        )
    return embeddings


@torch.no_grad()
def unit_rows(embedding: Tensor, encoder: Any) -> Tensor:
    """Return embeddings (n, d) whose dot products are cosines: as they are where the encoder normalises, else divided by their norms."""
    return (
        embedding if getattr(encoder, "normalize", False) else torch.nn.functional.normalize(embedding.float(), dim=-1)
    )


def relevant_ranks(query: Tensor, document: Tensor, relevant: Tensor, *, block_bytes: int = 2**27) -> Tensor:
    """Find at which ranks each query's relevant documents come when all documents are sorted by dot product with it.

    Ties count against the model: an irrelevant document that scores the same (to ``SCORE_ROUNDING``) comes first, so that an
    encoder that maps everything to one point gets the worst ranks, not the best.

    Args:
        query: (q, d), any float dtype; normalised rows give cosine.
        document: (n, d).
        relevant: (q, r) int64 indices into ``document``, none twice in a row; -1 pads the rows that have fewer than r.
        block_bytes: size of the largest block of scores; one row of n scores is always made.

    Returns:
        (q, r) float64 on the CPU: ranks from 1, ascending in each row; infinity where ``relevant`` was padding.

    Raises:
        UsageError: if shapes do not fit, an index is outside ``document``, or a query has no relevant document.
        TrainingError: if an embedding is not finite.
    """
    if relevant.shape[:1] != query.shape[:1] or relevant.ndim != 2 or query.shape[1:] != document.shape[1:]:
        raise UsageError(
            "expected query (q, d), document (n, d) and relevant (q, r); got "
            f"{tuple(query.shape)}, {tuple(document.shape)} and {tuple(relevant.shape)}"
        )
    if relevant.numel() == 0 or int(relevant.max(1).values.min()) < 0:
        raise UsageError("expected at least one query, and at least one relevant document for each; got one without")
    if int(relevant.max()) >= len(document):
        raise UsageError(f"expected relevant documents below {len(document)}; got index {int(relevant.max())}")
    query = require_finite(query.float(), "query embeddings")
    document = require_finite(document.float(), "document embeddings")
    relevant = relevant.to(query.device).sort(1, descending=True).values  # padding last
    slack = SCORE_ROUNDING * query.norm(dim=1) * document.norm(dim=1).max()  # (q,)
    rows = max(1, block_bytes // (4 * len(document)))
    blocks = zip(query.split(rows), relevant.split(rows), slack.split(rows))
    return torch.cat([_ranks_of_block(*block, document).cpu() for block in blocks])


def _ranks_of_block(query: Tensor, relevant: Tensor, slack: Tensor, document: Tensor) -> Tensor:
    absent = relevant < 0
    column = torch.where(absent, relevant[:, :1], relevant)  # padding repeats the first, harmless under scatter
    scores = query @ document.T  # (b, n)
    own = scores.gather(1, column).masked_fill(absent, -torch.inf).sort(1, descending=True).values  # (b, r)
    scores.scatter_(1, column, -torch.inf)
    threshold = own - slack[:, None]
    # A loop over r keeps one boolean block alive instead of r of them.
    ahead = torch.stack([(scores >= threshold[:, [j]]).sum(1) for j in range(own.shape[1])], 1)
    ranks = ahead + torch.arange(1, own.shape[1] + 1, device=own.device)
    return ranks.double().masked_fill(absent, torch.inf)


def mrr(ranks: Tensor, k: int | None = None) -> float:
    """Mean reciprocal rank of each query's first relevant document; 0 beyond rank k. ``ranks`` as `relevant_ranks` returns."""
    first = ranks[:, 0]
    return float((1 / first).masked_fill(first > (k or torch.inf), 0).mean())


def recall(ranks: Tensor, k: int) -> float:
    """Share of a query's relevant documents among its first k, mean over queries (1 or 0 each where one is relevant)."""
    return float(((ranks <= k).sum(1).double() / ranks.isfinite().sum(1)).mean())


def ndcg(ranks: Tensor, k: int) -> float:
    """Normalised discounted cumulative gain with gains 0 and 1: Σ 1/log2(1 + rank) over ranks ≤ k, by the best possible sum.

    Source: Järvelin and Kekäläinen 2002, with the discount of trec_eval.
    """
    gain = (1 / torch.log2(1 + ranks)).masked_fill(ranks > k, 0).sum(1)
    best = (1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))).cumsum(0)  # (k,): 1, 2, ... relevant documents
    return float((gain / best[ranks.isfinite().sum(1).clamp(max=k) - 1]).mean())
