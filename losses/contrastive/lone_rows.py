"""Rows that no candidate is a negative of, counted: each has loss 0, and a batch of them teaches nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inbatch.kernels import hardest, pair_logits
from inbatch.kernels.distributed.gather import world_size
from inbatch.losses.base import ROWS_WITHOUT_NEGATIVES

# How many neighbours a row is held against, before all candidates are.
_TRIED = 2


@torch.no_grad()
def lone_rows(
    query: Tensor,
    key: Tensor,
    own: int,
    query_ids: Tensor | None = None,
    key_ids: Tensor | None = None,
    ceiling: Tensor | None = None,
    guide: tuple[Tensor, Tensor, Tensor] | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """Say which rows have no candidate, (b,) bool; the arguments are those of `info_nce`, the ceiling in dot products.

    Equals ``log_sum(...).isneginf() & extra.isneginf().all(1)``, mostly at the price of one dot product a row: nearly every row may take
    its neighbour's key, and only those that may not are held against all.

    Example:
        >>> z, ids = torch.eye(3), torch.tensor([7, 7, 7])
        >>> lone_rows(z, z, own=0, ceiling=torch.tensor([0.5, 0.5, -0.5]))  # the others' cosines are 0, above the last row's ceiling
        tensor([False, False,  True])
        >>> lone_rows(z, z, own=0, query_ids=ids, key_ids=ids)  # one text in all rows
        tensor([True, True, True])
    """
    rows = torch.arange(len(query), device=query.device)
    if extra is not None:
        rows = rows[extra.isneginf().all(1)]

    def of(rows: Tensor) -> dict[str, Any]:
        """Give the rules of some rows, as `hardest` takes them."""
        return {
            "query_ids": None if query_ids is None else query_ids[rows],
            "key_ids": key_ids,
            "ceiling": None if ceiling is None else ceiling[rows],
            "guide": None if guide is None else (guide[0][rows], guide[1], guide[2][rows]),
        }

    for step in range(1, min(_TRIED, len(key) - 1) + 1):
        rows = rows[~_allowed(query[rows], key, (own + rows + step) % len(key), **of(rows))]
    alone = torch.zeros(len(query), dtype=torch.bool, device=query.device)
    if len(rows):
        _, found = hardest(query[rows], key, 2, own=None, **of(rows))
        alone[rows] = ~((found >= 0) & (found != own + rows[:, None])).any(1)
    return alone


def _allowed(
    query: Tensor,
    key: Tensor,
    other: Tensor,
    query_ids: Tensor | None,
    key_ids: Tensor | None,
    ceiling: Tensor | None,
    guide: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """Say whether key ``other``, (r,), which is not a row's own, is a candidate of each row; (r,) bool."""
    fits = torch.ones(len(query), dtype=torch.bool, device=query.device)
    if query_ids is not None and key_ids is not None:
        mine, theirs = (ids if ids.ndim == 2 else ids[:, None] for ids in (query_ids, key_ids[other]))
        met = (mine[:, :, None] == theirs[:, None, :]).flatten(1).any(1)
        fits &= ~(met | (mine == -1).any(1) | (theirs == -1).any(1))
    if ceiling is not None:
        fits &= pair_logits(query, key[other], 1.0) <= ceiling
    if guide is not None:
        fits &= pair_logits(guide[0], guide[1][other], 1.0) <= guide[2]
    return fits


def note(logs: dict[str, Any] | None, alone: Tensor) -> None:
    """Put the number of lone rows, (b,) bool of this rank, into logs, such that the mean over ranks is the number of all of them.

    Example:
        >>> logs = {}
        >>> note(logs, torch.tensor([True, False, True]))
        >>> logs
        {'rows_without_negatives': tensor(2)}
    """
    if logs is not None:
        logs[ROWS_WITHOUT_NEGATIVES] = alone.sum() * world_size()
