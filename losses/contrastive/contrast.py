"""The arithmetic of InfoNCE with everything that in-batch candidates of several ranks, hard negatives and queues ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inbatch.errors import UsageError
from inbatch.kernels import info_nce, pair_logits
from inbatch.losses.candidates import Candidates, own_repeats
from inbatch.losses.contrastive.lone_rows import lone_rows, note
from inbatch.views import Views


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

    Example:
        >>> question, answer = torch.eye(2), torch.eye(2)
        >>> round(contrast(question, answer, scale=2.0).item(), 4)  # log(1 + e^-2), from the other row's answer
        0.1269
        >>> ids = Views(torch.tensor([1, 2]), torch.tensor([3, 3]))  # both answers are the same text, so that no negative is left
        >>> contrast(question, answer, scale=2.0, ids=ids)
        tensor(0.)
    """
    b, weighted = len(anchor), isinstance(hard_negative_weight, Tensor) or bool(hard_negative_weight)
    weighted = weighted and bool(len(negatives))
    found = Candidates.of(
        Views(anchor, positive, tuple(negatives), ids=ids),
        own_apart=weighted,
        further=further,
        further_ids=further_ids,
    )
    own_logit = pair_logits(anchor, positive, scale)
    arguments: dict[str, Any] = {"scale": scale, "weight": weight, "workspace_bytes": workspace_bytes}
    arguments["reduction"] = "sum"
    if margin:
        arguments["positive"] = own_logit - scale * margin
    if false_negative_margin is not None:
        arguments["ceiling"] = (own_logit + scale * false_negative_margin).detach()
    extra = None
    if weighted:
        extra = pair_logits(anchor, torch.stack(list(negatives), 1), scale)
        extra = extra.masked_fill(_excluded(extra, ids, arguments.get("ceiling")), -torch.inf) + hard_negative_weight
    if logs is not None:
        ceiling = None if false_negative_margin is None else (arguments["ceiling"] / scale).detach()
        note(logs, lone_rows(anchor, found.key, **found.rules, ceiling=ceiling, extra=extra))

    ranks = len(found.counts)
    if ranks == 1 or not symmetric:
        total = info_nce(anchor, found.key, **found.rules, extra=extra, symmetric=symmetric, **arguments)
    else:
        if false_negative_margin is not None:
            raise UsageError(
                "symmetric with false_negative_margin works on one rank only: a row's ceiling would have to reach the columns of "
                f"other ranks; got {ranks} ranks. Set objective.symmetric or objective.false_negative_margin to its default."
            )
        # The columns of this rank's keys, scored against the queries of all ranks over the same candidate pairs.
        arguments["positive"] = arguments.get("positive", own_logit)
        queries = found.gather(anchor)
        rows = info_nce(anchor, found.key, **found.rules, extra=extra, **arguments)
        mine: dict[str, Any] = {"own": found.own}
        if found.query_ids is not None and found.key_ids is not None:
            mine |= {"query_ids": found.key_ids[found.own : found.own + b], "key_ids": found.gather(found.query_ids)}
        total = (rows + info_nce(positive, queries, **mine, **arguments)) / 2
    return found.mean(total)


def _excluded(own: Tensor, ids: Views[Tensor] | None, ceiling: Tensor | None) -> Tensor:
    """Say which of the rows' own hard negatives, (b, k) logits, are no negatives by the rules of `info_nce`: (b, k) bool."""
    out = torch.zeros_like(own, dtype=torch.bool) if ids is None else own_repeats(ids)
    return out if ceiling is None else out | (own.detach() > ceiling[:, None])
