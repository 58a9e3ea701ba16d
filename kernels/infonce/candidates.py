"""The rules that take keys out of a row's candidates, applied to a block of logits in place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Pairs of equal ids that are handled at once, and the bytes that one of them takes on the way.
PIECE, BYTES_PER_PAIR = 1 << 12, 64


@dataclass(frozen=True)
class Matches:
    """Equal ids, found by sorting the keys' ids once; the pairs themselves are enumerated block by block, never all at once."""

    columns: Tensor  # (n·m,) int64: the key of each id, ids ascending
    first: Tensor  # (b, k) int64: where the run of ids equal to the query's id begins in `columns`
    counts: Tensor  # (b, k) int64: its length
    wild_rows: Tensor | None  # (b,) bool; None where there are none
    wild_columns: Tensor | None  # (n,) bool
    pairs: list[int]  # (b + 1), pairs in all rows before each

    @staticmethod
    def find(query_ids: Tensor, key_ids: Tensor) -> Matches:
        """Sort and search: O((b·k + n·m)·log(n·m)) time, O(b·k + n·m) memory."""
        q, k = query_ids.reshape(len(query_ids), -1), key_ids.reshape(len(key_ids), -1)
        values, order = k.flatten().sort(stable=True)
        first = torch.searchsorted(values, q.contiguous())
        counts = torch.searchsorted(values, q.contiguous(), right=True) - first
        wild_rows, wild_columns = (q == -1).any(1), (k == -1).any(1)
        # Rows and columns that are out as a whole need no pairs.
        counts = counts.masked_fill(wild_rows[:, None] | (q == -1), 0)
        # What the blocks' loops ask for comes to the host at once: a GPU is waited for here and not in every block.
        some = torch.stack([wild_rows.any(), wild_columns.any()]).long()
        some_rows, some_columns, *pairs = torch.cat([some, counts.sum(1).cumsum(0)]).tolist()
        return Matches(
            order // max(1, k.shape[1]), first, counts, wild_rows if some_rows else None,
            wild_columns if some_columns else None, [0, *pairs],
        )  # fmt: skip

    def exclude_(self, logits: Tensor, start: int, value: float = -torch.inf) -> None:
        """Put ``value`` where the ids meet; ``logits`` (c, n) holds rows start … start + c."""
        rows = slice(start, start + len(logits))
        if self.wild_rows is not None:
            logits.masked_fill_(self.wild_rows[rows, None], value)
        if self.wild_columns is not None:
            logits.masked_fill_(self.wild_columns, value)
        counts, first = self.counts[rows].flatten(), self.first[rows].flatten()
        ends = counts.cumsum(0)
        per_row = self.counts.shape[1]
        total = self.pairs[rows.stop] - self.pairs[rows.start]
        for begin in range(0, total, PIECE):
            pair = torch.arange(begin, min(begin + PIECE, total), device=logits.device)
            run = torch.searchsorted(ends, pair, right=True)
            within = pair - (ends[run] - counts[run])
            logits[run // per_row, self.columns[first[run] + within]] = value


@dataclass(frozen=True)
class Rules:
    """All that excludes a pair: the row's own key, equal ids, a ceiling on the logit, a ceiling on a guide's dot product."""

    own: int | None
    query_ids: Tensor | None  # (b, k) int64
    key_ids: Tensor | None  # (n, m) int64
    ceiling: Tensor | None  # (b,) in the unit of the logits
    guide: tuple[Tensor, Tensor, Tensor] | None  # (b, g), (n, g), (b,)

    @staticmethod
    def of(
        own: int | None, query_ids: Tensor | None, key_ids: Tensor | None, ceiling: Tensor | None,
        guide: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Rules:  # fmt: skip
        """Prepare the rules of one call from validated arguments; everything is compared detached."""
        query_ids, key_ids = (t if t is None or t.dim() == 2 else t[:, None] for t in (query_ids, key_ids))
        return Rules(
            own,
            query_ids,
            key_ids,
            None if ceiling is None else ceiling.detach(),
            None if guide is None else (guide[0].detach(), guide[1].detach(), guide[2].detach()),
        )

    def contiguous(self) -> Rules:
        """Return the same rules with every tensor laid out row by row, as a kernel reads it, floats in float32."""
        query_ids, key_ids = (None if t is None else t.contiguous() for t in (self.query_ids, self.key_ids))
        ceiling = None if self.ceiling is None else self.ceiling.float().contiguous()
        if self.guide is None:
            return Rules(self.own, query_ids, key_ids, ceiling, None)
        query, key, limit = (t.float().contiguous() for t in self.guide)
        return Rules(self.own, query_ids, key_ids, ceiling, (query, key, limit))

    @cached_property
    def matches(self) -> Matches | None:
        """Equal ids, for the backend that enumerates them."""
        if self.query_ids is None or self.key_ids is None or not len(self.query_ids) or not len(self.key_ids):
            return None
        return Matches.find(self.query_ids, self.key_ids)

    def bytes_per_row(self, keys: int) -> int:
        """Temporary bytes that `exclude_` takes for each row of a block."""
        # A ceiling makes a bool a pair; a guide its dot products and a bool.
        element = 8 if self.guide is not None and self.guide[0].dtype == torch.float64 else 4
        return keys * ((1 if self.ceiling is not None else 0) + (element + 1 if self.guide is not None else 0))

    def fixed_bytes(self) -> int:
        """Temporary bytes that `exclude_` takes whatever the block's size."""
        return PIECE * BYTES_PER_PAIR if self.matches is not None else 0

    def of_keys(self, columns: slice) -> Rules:
        """Return the rules for some of the keys, as if there were no others; ``own`` may be negative then."""
        guide = None if self.guide is None else (self.guide[0], self.guide[1][columns], self.guide[2])
        key_ids = None if self.key_ids is None else self.key_ids[columns]
        return Rules(
            None if self.own is None else self.own - columns.start, self.query_ids, key_ids, self.ceiling, guide
        )

    def exclude_(self, logits: Tensor, start: int, value: float = -torch.inf) -> Tensor:
        """Put ``value`` on pairs that are no candidates; ``logits`` (c, n) holds rows start … start + c of the whole matrix."""
        rows = slice(start, start + len(logits))
        if self.ceiling is not None:
            logits.masked_fill_(logits > self.ceiling[rows, None], value)
        if self.guide is not None:
            query, key, ceiling = self.guide
            logits.masked_fill_(query[rows] @ key.T > ceiling[rows, None], value)
        if self.matches is not None:
            self.matches.exclude_(logits, start, value)
        if self.own is not None:
            logits.diagonal(self.own + start).fill_(value)
        return logits
