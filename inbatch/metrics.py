"""How well embeddings order things: Spearman correlation, and MRR, recall@k and nDCG@k from the ranks of the relevant documents.

Everything is scored in float32 whatever the embeddings' dtype: bf16 scores tie so often that rank metrics change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inbatch.errors import TrainingError, UsageError

SCORE_ROUNDING = 1e-6
"""Scores closer than this, relative to the norms, are ties: a float32 dot product is not known better, and equal documents in
different columns of one matrix product may differ by it."""


def average_ranks(values: Tensor) -> Tensor:
    """Rank (n,) values from 1, ties sharing their mean rank; float64, as ``scipy.stats.rankdata``.

    Example:
        >>> average_ranks(torch.tensor([10.0, 30.0, 20.0, 30.0])).tolist()
        [1.0, 3.5, 2.0, 3.5]
    """
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts.double() - 1) / 2)[place]


def spearman(first: Tensor, second: Tensor) -> float:
    """Correlate the ranks of two (n,) tensors; ties get their mean rank.

    Equivalent to ``scipy.stats.spearmanr(first, second).statistic``: in [-1, 1], and NaN where one of them is constant.

    Raises:
        UsageError: if the shapes differ or there are fewer than two values.
        TrainingError: if a value is NaN; infinities are ranked as any other number.

    Example:
        >>> scores, labels = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([1.0, 5.0, 3.0])
        >>> round(spearman(scores, labels), 3)  # 1 - 6 * (0 + 1 + 1) / (3 * 8)
        0.5
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

    Example:
        >>> require_finite(torch.tensor([[0.6, 0.8], [float("nan"), 1.0]]))
        Traceback (most recent call last):
        inbatch.errors.TrainingError: expected finite embeddings; 1 of 2 rows hold NaN or infinity, the first is row 1.
        Check that the model's weights are finite.
    """
    broken = (~embeddings.isfinite().all(1)).nonzero().flatten()
    if len(broken):
        raise TrainingError(
            f"expected finite {what}; {len(broken)} of {len(embeddings)} rows hold NaN or infinity, the first is row "
            f"{int(broken[0])}. Check that the model's weights are finite."
        )
    return embeddings


def relevant_ranks(query: Tensor, document: Tensor, relevant: Tensor, *, block_bytes: int = 2**27) -> Tensor:
    """Find at which ranks each query's relevant documents come when all documents are sorted by dot product with it.

    The arguments but for the gains, the ranks (q, r) and the errors are those of `graded_ranks`.

    Example:
        >>> query, document = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
        >>> relevant_ranks(query, document, torch.tensor([[0]])).tolist()  # document 1 scores 1, document 0 only 0.6
        [[2.0]]
    """
    return graded_ranks(query, document, relevant, (relevant >= 0).double(), block_bytes=block_bytes)[0]


def graded_ranks(
    query: Tensor, document: Tensor, relevant: Tensor, gain: Tensor, *, block_bytes: int = 2**27
) -> tuple[Tensor, Tensor]:
    """Find at which ranks each query's relevant documents come, and what each is worth.

    Ties count against the model: a document that is worth less and scores the same (to ``SCORE_ROUNDING``) comes first, so that an
    encoder that maps everything to one point gets the worst ranks, not the best.

    Args:
        query: (q, d), any float dtype; normalised rows give cosine.
        document: (n, d).
        relevant: (q, r) int64 indices into ``document``, none twice in a row; -1 pads the rows that have fewer than r.
        gain: (q, r), above 0 for each relevant document.
        block_bytes: size of the largest block of scores; one row of n scores is always made.

    Returns:
        Ranks (q, r) float64 on the CPU, from 1, ascending in each row, infinity where ``relevant`` was padding; and gains (q, r)
        float64 in the same order, 0 there.

    Raises:
        UsageError: if shapes do not fit, an index is outside ``document``, or a query has no relevant document.
        TrainingError: if an embedding is not finite.

    Example:
        >>> query, document = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
        >>> ranks, gains = graded_ranks(query, document, torch.tensor([[1, 2]]), torch.tensor([[1.0, 2.0]]))
        >>> ranks.tolist(), gains.tolist()  # document 2, which is worth more, comes last
        ([[1.0, 3.0]], [[1.0, 2.0]])
    """
    shapes = (relevant.shape[:1], query.shape[1:], gain.shape)
    if relevant.ndim != 2 or shapes != (query.shape[:1], document.shape[1:], relevant.shape):
        raise UsageError(
            "expected query (q, d), document (n, d), relevant (q, r) and gain (q, r); got "
            f"{tuple(query.shape)}, {tuple(document.shape)}, {tuple(relevant.shape)} and {tuple(gain.shape)}"
        )
    if relevant.numel() == 0 or int(relevant.max(1).values.min()) < 0:
        raise UsageError("expected at least one query, and at least one relevant document for each; got one without")
    if int(relevant.max()) >= len(document):
        raise UsageError(f"expected relevant documents below {len(document)}; got index {int(relevant.max())}")
    query = require_finite(query.float(), "query embeddings")
    document = require_finite(document.float(), "document embeddings")
    relevant, order = relevant.to(query.device).sort(1, descending=True)  # padding last
    gain = gain.to(query.device, torch.float64).gather(1, order).masked_fill(relevant < 0, 0.0)
    slack = SCORE_ROUNDING * query.norm(dim=1) * document.norm(dim=1).max()  # (q,)
    rows = max(1, block_bytes // (4 * len(document)))
    blocks = zip(query.split(rows), relevant.split(rows), gain.split(rows), slack.split(rows))
    ranks, gains = zip(*(_ranks_of_block(*block, document) for block in blocks))
    return torch.cat(ranks), torch.cat(gains)


def _ranks_of_block(
    query: Tensor, relevant: Tensor, gain: Tensor, slack: Tensor, document: Tensor
) -> tuple[Tensor, Tensor]:
    absent = relevant < 0
    column = torch.where(absent, relevant[:, :1], relevant)  # padding repeats the first, harmless under scatter
    scores = query @ document.T  # (b, n)
    own = scores.gather(1, column).masked_fill(absent, -torch.inf)  # (b, r)
    scores.scatter_(1, column, -torch.inf)
    # A document is put back by the rounding for each grade that it is worth more: what is worth less comes first among equals.
    grades = torch.searchsorted(gain.unique(), gain)
    _, order = (own.double() - slack[:, None] * grades).sort(dim=1, descending=True, stable=True)
    own, gain = own.gather(1, order), gain.gather(1, order)
    threshold = own - slack[:, None]
    # A loop over r keeps one boolean block alive instead of r of them.
    ahead = torch.stack([(scores >= threshold[:, [j]]).sum(1) for j in range(own.shape[1])], 1)
    ranks = ahead + torch.arange(1, own.shape[1] + 1, device=own.device)
    return ranks.double().masked_fill(own.isneginf(), torch.inf).cpu(), gain.cpu()


def mrr(ranks: Tensor, k: int | None = None) -> float:
    """Mean reciprocal rank of each query's first relevant document; 0 beyond rank k. ``ranks`` as `relevant_ranks` returns.

    Example:
        >>> ranks = torch.tensor([[1.0], [4.0]])
        >>> mrr(ranks), mrr(ranks, k=3)  # (1 + 1/4) / 2, and (1 + 0) / 2
        (0.625, 0.5)
    """
    first = ranks[:, 0]
    return float((1 / first).masked_fill(first > (k or torch.inf), 0).mean())


def recall(ranks: Tensor, k: int) -> float:
    """Share of a query's relevant documents among its first k, mean over queries (1 or 0 each where one is relevant).

    Example:
        >>> ranks = torch.tensor([[1.0, 5.0], [2.0, torch.inf]])  # two relevant documents, and one
        >>> recall(ranks, k=3)  # (1/2 + 1) / 2
        0.75
    """
    return float(((ranks <= k).sum(1).double() / ranks.isfinite().sum(1)).mean())


def ndcg(ranks: Tensor, k: int, gain: Tensor | None = None) -> float:
    """Normalised discounted cumulative gain: Σ gain/log2(1 + rank) over ranks ≤ k, by the best possible sum.

    Args:
        ranks: (q, r), as `graded_ranks` returns them.
        k: the last rank that counts.
        gain: (q, r), as `graded_ranks` returns them; None: 1 each.

    Source: Järvelin and Kekäläinen 2002, with the discount of trec_eval, and its gain, which is the grade itself.

    Example:
        >>> round(ndcg(torch.tensor([[3.0]]), k=10), 3)  # 1 / log2(1 + 3), where the best would be 1 / log2(1 + 1)
        0.5
    """
    gain = ranks.isfinite().double() if gain is None else gain
    found = (gain / torch.log2(1 + ranks)).masked_fill(ranks > k, 0).sum(1)
    best = gain.sort(1, descending=True).values[:, :k]
    best = (best / torch.log2(torch.arange(2, best.shape[1] + 2, dtype=torch.float64))).sum(1)
    return float((found / best).mean())
