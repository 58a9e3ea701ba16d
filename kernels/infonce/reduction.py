"""From log sums to losses and gradients: what is per row, and the order in which a backend is asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inbatch.kernels.infonce import reference
from inbatch.kernels.infonce.backend import Backend, P


def losses_of(row: Tensor, column: Tensor | None, positive: Tensor, extra: Tensor | None) -> Tensor:
    """Compute each row's loss, (b,), from its log sum and, for symmetric losses, its own key's column's."""
    losses = reference.row_loss(row, positive, extra)
    return losses if column is None else (losses + reference.row_loss(column, positive, None)) / 2


def slopes_of(
    log_sum: Tensor, positive: Tensor, extra: Tensor | None, factor: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Differentiate ``factor * reference.row_loss(log_sum, positive, extra)``; autograd is not at hand inside an operation.

    Returns:
        Derivatives with respect to log_sum (b,), positive (b,) and extra (b, e) or None; 0 in a row without negatives.
    """
    competing = log_sum if extra is None else reference.log_sum_exp(torch.cat([log_sum[:, None], extra], 1))
    absent = competing.isneginf()
    slope = (factor * (competing - positive).sigmoid()).masked_fill(absent, 0.0)
    if extra is None:
        return slope, -slope, None
    safe = competing.masked_fill(absent, 0.0)
    return slope * (log_sum - safe).exp(), -slope, slope[:, None] * (extra - safe[:, None]).exp()


def reduce_and_differentiate(
    backend: Backend[P], problem: P, positive: Tensor | None, extra: Tensor | None, weight: Tensor | None, symmetric: bool,
    reduction: str, wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Reduce the losses and make their gradients: in one pass over the logits, or in two for symmetric losses.

    Args:
        backend: does the (b, n) work; problem: the call, of this backend.
        positive: (b,) or None; extra: (b, e) or None; weight: (b,) or None; symmetric, reduction: see `operators.info_nce`.
        wanted: whether to make the gradients of query, key, scale, positive and extra.

    Returns:
        The loss, 0-d, and the five gradients, None where not wanted.
    """
    need_q, need_k, need_scale, need_positive, need_extra = wanted
    scale, own, b = problem.scale, problem.rules.own, len(problem.query)
    # A backend may keep half-precision inputs as they are; what is made here takes float32 or float64.
    q = problem.query.to(scale.dtype)
    own_keys: Tensor | None = None
    if positive is None:
        assert own is not None
        own_keys = problem.key[own : own + b].to(q.dtype)
        positive = scale * (q * own_keys).sum(-1)
    pairs = positive
    factor = torch.ones_like(pairs) if weight is None else weight
    factor = factor / max(1, b) if reduction == "mean" else factor
    d_positive = torch.zeros_like(pairs)
    d_extra = None if extra is None else torch.zeros_like(extra)
    loss = pairs.new_zeros(())

    def slope(rows: slice, row: Tensor, column: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Add the losses of some rows and return the derivatives with respect to their log sums."""
        some = None if extra is None else extra[rows]
        loss.add_((losses_of(row, column, pairs[rows], some) * factor[rows]).sum())
        share = factor[rows] if column is None else factor[rows] / 2
        d_row, d_positive[rows], of_extra = slopes_of(row, pairs[rows], some, share)
        if d_extra is not None and of_extra is not None:
            d_extra[rows] = of_extra
        if column is None:
            return d_row, None
        d_column, pull, _ = slopes_of(column, pairs[rows], None, share)
        d_positive[rows] += pull
        return d_row, d_column

    make_q, make_k = need_q or need_scale, need_k
    if symmetric:
        row, column = backend.log_sums(problem, own_columns=True, keep=make_q or make_k)
        assert column is not None
        d_row, d_column = slope(slice(0, b), row, column)
        assert d_column is not None
        dq, dk = backend.gradients(problem, (row, d_row), (column, d_column), make_q, make_k)
    else:
        _, dq, dk = backend.fused(problem, lambda rows, row: slope(rows, row)[0], make_q, make_k)
    if own is not None and own_keys is not None:
        pull = (d_positive * scale)[:, None]
        if dq is not None:
            dq.addcmul_(pull, own_keys)
        if dk is not None:
            dk[own : own + b].addcmul_(pull, q)
    d_scale = (dq * q).sum() / scale if need_scale and dq is not None else None
    return (
        loss,
        dq if need_q else None,
        dk,
        d_scale,
        d_positive if need_positive else None,
        d_extra if need_extra else None,
    )
