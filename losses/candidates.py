"""What this rank's rows are contrasted with: the keys of all ranks, and which of them are no negatives of which row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inbatch.kernels import gather
from inbatch.kernels.distributed.gather import row_counts
from inbatch.views import Views

# An id that no text has, and that is not the wildcard -1 either.
NO_TEXT = -2


@dataclass(frozen=True)
class Candidates:
    """Keys, and the rules by which the operators of `inbatch.kernels` leave some out.

    Attributes:
        key: (n, d), block after block: positives, hard negatives, further ones; a block's rows stand in rank order.
        own: the place of this rank's first row among the rows of all ranks: row i's positive is key ``own + i``.
        counts: rows of each rank.
        query_ids: (b, k) int64 or None, see `info_nce`.
        key_ids: (n, 2) int64 or None.

    Example:
        >>> from inbatch.kernels import log_sum
        >>> ids = Views(torch.tensor([1, 2]), torch.tensor([3, 3]))  # two questions with the same answer
        >>> found = Candidates.of(Views(torch.eye(2), torch.eye(2), ids=ids))
        >>> log_sum(torch.eye(2), found.key, scale=1.0, **found.rules)  # neither row has a negative
        tensor([-inf, -inf])
        >>> found.mean(torch.tensor(6.0))
        tensor(3.)
    """

    key: Tensor
    own: int
    counts: list[int]
    query_ids: Tensor | None = None
    key_ids: Tensor | None = None

    @classmethod
    def of(
        cls,
        z: Views[Tensor],
        *,
        anchors: bool = False,
        own_apart: bool = False,
        further: Tensor | None = None,
        further_ids: Tensor | None = None,
    ) -> Candidates:
        """Gather the candidates of a batch; on one rank ``key = cat([z.positive, *z.negatives])``. All ranks must call.

        With ids, a candidate whose text is the row's anchor or positive is no negative, and neither is a positive whose anchor is.

        Args:
            z: (b, d) a view, with ids of the texts or without.
            anchors: take the anchors for candidates, too, after the positives; a row is none of itself.
            own_apart: a row's own hard negatives are given to the operator as extra logits, and so are no keys of the row.
            further: (m, d), candidates of all rows, the same on every rank: a queue, noise.
            further_ids: (m,) texts of them; None for none.

        Example:
            >>> z = Views(torch.eye(3), torch.eye(3).roll(1, 0))
            >>> found = Candidates.of(z)
            >>> found.own, found.rows, torch.equal(found.key, z.positive)
            (0, 3, True)
        """
        counts = row_counts(len(z.anchor), z.anchor.device)
        own = sum(counts[: torch.distributed.get_rank()]) if len(counts) > 1 else 0
        ids = z.ids
        if ids is None and (anchors or own_apart):
            ids = _positions(own, len(z.anchor), sum(counts), len(z.negatives), z.anchor.device)
        key = _stack([z.positive, *([z.anchor] if anchors else []), *z.negatives], counts)
        key = key if further is None else torch.cat([key, further.to(key.dtype)])
        if ids is None:
            return cls(key, own, counts)
        queries = torch.stack([ids.anchor, ids.positive, *(ids.negatives if own_apart else ())], 1)
        pair = torch.stack([ids.positive, ids.anchor], 1)
        keys = _stack([pair, *([pair] if anchors else []), *(torch.stack([n, n], 1) for n in ids.negatives)], counts)
        if further is not None:
            texts = queries.new_full((len(further),), NO_TEXT) if further_ids is None else further_ids
            keys = torch.cat([keys, torch.stack([texts, texts], 1)])
        return cls(key, own, counts, queries, keys)

    @property
    def rows(self) -> int:
        """Rows of all ranks."""
        return sum(self.counts)

    @property
    def rules(self) -> dict[str, Any]:
        """The arguments ``own``, ``query_ids`` and ``key_ids`` of the operators."""
        return {"own": self.own, "query_ids": self.query_ids, "key_ids": self.key_ids}

    def gather(self, *blocks: Tensor) -> Tensor:
        """Stack further blocks of this rank's rows, (b, ...) each, as the keys are; ``cat(blocks)`` on one rank."""
        return _stack(blocks, self.counts)

    def mean(self, total: Tensor) -> Tensor:
        """Return a sum over this rank's rows as its share of the global mean: averaged over ranks, the mean of all rows; 0 without any."""
        return total * len(self.counts) / max(1, self.rows)


def own_repeats(ids: Views[Tensor]) -> Tensor:
    """Say which of the rows' own hard negatives are the row's anchor or positive, and so no negatives; (b, k) bool.

    Example:
        >>> ids = Views(torch.tensor([1, 2]), torch.tensor([3, 4]), (torch.tensor([3, 5]), torch.tensor([6, 2])))
        >>> own_repeats(ids)  # the first row's first is its positive, the second row's second its anchor
        tensor([[ True, False],
                [False,  True]])
    """
    texts = torch.stack(list(ids.negatives), 1)
    return (texts == ids.anchor[:, None]) | (texts == ids.positive[:, None]) | (texts == -1)


def _stack(blocks: Any, counts: list[int]) -> Tensor:
    if len(blocks) == 1 and len(counts) == 1:
        return blocks[0]
    return torch.cat([gather(block, counts=counts)[0] for block in blocks])


def _positions(own: int, b: int, rows: int, negatives: int, device: torch.device) -> Views[Tensor]:
    """Number every text of the global batch, an anchor as its positive, so that only a row's own texts are equal to it."""
    first = torch.arange(own, own + b, device=device)
    return Views(first, first, tuple(first + rows * (column + 1) for column in range(negatives)))
