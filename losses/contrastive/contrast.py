"""The arithmetic of InfoNCE with everything that in-batch candidates of several ranks, hard negatives and queues ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inbatch.errors import UsageError
from inbatch.kernels import gather, info_nce, pair_logits
from inbatch.kernels.distributed.gather import row_counts, world_size
from inbatch.losses.contrastive.lone_rows import lone_rows, note
from inbatch.views import Views

# An id that no text has, and that is not the wildcard -1 either.
NO_TEXT = -2


def contrast(
    anchor: Tensor,
    positive: Tensor,
    negatives: Sequence[Tensor] = (),
    *,
    scale: Tensor | float,
    ids: Views[Tensor] | None = None,
    symmetric: bool = False,
    margin: float = 0.0,
    hard_negative_weight: float | Tensor = 0.0,
    false_negative_margin: float | None = None,
    further: Tensor | None = None,
    further_ids: Tensor | None = None,
    weight: Tensor | None = None,
    workspace_bytes: int | None = None,
    logs: dict[str, Any] | None = None,
) -> Tensor:
    """Compute the InfoNCE loss of this rank's rows, whose average over ranks is the mean over the global batch.

    Equals ``F.cross_entropy(scale * anchor @ cat([positive, *negatives, further]).T, arange(b))`` on one rank without options.

    Args:
        anchor: (b, d), normalised.
        positive: (b, d), normalised.
        negatives: hard negatives, (b, d) a column; candidates of all rows.
        scale: 1/temperature.
        ids: text ids of the roles, as `Views.ids`; a candidate whose text is the row's anchor or positive is no negative, and
            neither is a positive whose anchor is.
        symmetric: mean of both directions; hard negatives and further candidates take part in the row direction only.
        margin: subtracted from the positive's cosine.
        hard_negative_weight: added to the logits of the row's own hard negatives: one number, or (b, k), a constant.
        false_negative_margin: drop candidates whose cosine exceeds the positive's by more than this.
        further: (m, d), candidates of all rows, the same on every rank: a queue, noise.
        further_ids: (m,) text ids of them, where ``ids`` are given; none of them equals a text where they are not.
        weight: (b,) constant factor of each row's loss; the mean is over all rows.
        workspace_bytes: see `info_nce`.
        logs: takes the number of rows without a negative, see `lone_rows`.

    Returns:
        0-d tensor.

    Raises:
        UsageError: if symmetric and false_negative_margin meet on several ranks.
    """
    b, ranks = len(anchor), world_size()
    counts = row_counts(b, anchor.device)
    key = gather_keys([positive, *negatives], counts)
    key = key if further is None else torch.cat([key, further.to(key.dtype)])
    own = first_row(counts)

    own_logit = pair_logits(anchor, positive, scale)
    arguments: dict[str, Any] = {"scale": scale, "own": own, "weight": weight, "workspace_bytes": workspace_bytes}
    arguments["reduction"] = "sum"
    if margin:
        arguments["positive"] = own_logit - scale * margin
    if false_negative_margin is not None:
        arguments["ceiling"] = (own_logit + scale * false_negative_margin).detach()
    extra = None
    weighted = bool(len(negatives)) and (isinstance(hard_negative_weight, Tensor) or bool(hard_negative_weight))
    if weighted:
        extra = pair_logits(anchor, torch.stack(list(negatives), 1), scale)
        extra = extra.masked_fill(_excluded(extra, ids, arguments.get("ceiling")), -torch.inf) + hard_negative_weight
    if ids is None and weighted:
        ids = _positions(b, own, sum(counts), len(negatives), anchor.device)
    query_ids, key_ids = (None, None) if ids is None else id_sets(ids, counts, weighted, further, further_ids)
    if logs is not None:
        ceiling = None if false_negative_margin is None else (arguments["ceiling"] / scale).detach()
        note(logs, lone_rows(anchor, key, own, query_ids, key_ids, ceiling, extra=extra))

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


def gather_keys(blocks: Sequence[Tensor], counts: list[int]) -> Tensor:
    """Stack the rows of all ranks, block after block; a block's rows stand in rank order."""
    if len(blocks) == 1 and len(counts) == 1:
        return blocks[0]
    return torch.cat([gather(block, counts=counts)[0] for block in blocks])


def first_row(counts: list[int]) -> int:
    """Return the place of this rank's first row among the rows of all ranks."""
    return sum(counts[: torch.distributed.get_rank()]) if len(counts) > 1 else 0


def id_sets(
    ids: Views[Tensor],
    counts: list[int],
    weighted: bool = False,
    further: Tensor | None = None,
    further_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Build the id sets of `info_nce`: queries {anchor, positive}, keys {positive, anchor}, hard negatives their own id twice.

    Args:
        ids: of this rank's texts.
        counts: rows of each rank.
        weighted: a row's own hard negatives come as extra logits, and so are no keys of the row.
        further: the candidates after those of the batch.
        further_ids: their texts; None for none.
    """
    own_negatives = list(ids.negatives) if weighted else []
    queries = torch.stack([ids.anchor, ids.positive, *own_negatives], 1)
    pairs = [torch.stack([ids.positive, ids.anchor], 1), *(torch.stack([n, n], 1) for n in ids.negatives)]
    keys = [gather(pair, counts=counts)[0] for pair in pairs]
    if further is not None:
        texts = queries.new_full((len(further),), NO_TEXT) if further_ids is None else further_ids
        keys.append(torch.stack([texts, texts], 1))
    return queries, torch.cat(keys)


def _excluded(own: Tensor, ids: Views[Tensor] | None, ceiling: Tensor | None) -> Tensor:
    """Say which of the rows' own hard negatives, (b, k) logits, are no negatives by the rules of `info_nce`: (b, k) bool."""
    out = torch.zeros_like(own, dtype=torch.bool)
    if ids is not None:
        texts = torch.stack(list(ids.negatives), 1)
        out = (texts == ids.anchor[:, None]) | (texts == ids.positive[:, None]) | (texts == -1)
    return out if ceiling is None else out | (own.detach() > ceiling[:, None])


def _positions(b: int, own: int, rows: int, negatives: int, device: torch.device) -> Views[Tensor]:
    """Number every key of the global batch, so that only a row's own keys are equal to it."""
    first = torch.arange(own, own + b, device=device)
    return Views(first, first, tuple(first + rows * (column + 1) for column in range(negatives)))
