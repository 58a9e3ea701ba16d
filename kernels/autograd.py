"""The operator's two autograd functions: gradients made in the forward pass, and gradients made again in the backward pass.

Both do the (b, n) work through a backend, `inbatch.kernels.chunked` or `inbatch.kernels.tiled`, whose functions have the same
signatures, and leave what is per row to `losses_of`, which autograd differentiates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inbatch.kernels import reference
from inbatch.kernels.candidates import Rules


def losses_of(row: Tensor, column: Tensor | None, positive: Tensor, extra: Tensor | None) -> Tensor:
    """Compute each row's loss, (b,), from its log sum and, for symmetric losses, its own key's column's."""
    losses = reference.row_loss(row, positive, extra)
    return losses if column is None else (losses + reference.row_loss(column, positive, None)) / 2


# A module with Problem, log_sums, fused, gradients and hardest.
Backend = Any


class LogSums(torch.autograd.Function):
    """Log sums of rows and, if asked, of the columns of the rows' own keys; the backward pass computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        scale: Tensor,
        rules: Rules,
        columns: bool,
        workspace: int | None,
        backend: Backend,
    ) -> tuple[Tensor, Tensor | None]:
        """Reduce; see `chunked.log_sums`."""
        problem = backend.Problem.of(query, key, scale, rules, workspace)
        row, column = backend.log_sums(problem, own_columns=columns)
        ctx.save_for_backward(query, key, scale, row, column)
        ctx.rules, ctx.workspace, ctx.backend = rules, workspace, backend
        return row, column

    @staticmethod
    def backward(ctx: Any, d_row: Tensor, d_column: Tensor | None) -> tuple[Tensor | None, ...]:
        """Make the gradients from the saved log sums."""
        _refuse_second_derivative()
        query, key, scale, row, column = ctx.saved_tensors
        problem = ctx.backend.Problem.of(query, key, scale, ctx.rules, ctx.workspace)
        need_q, need_k, need_scale = ctx.needs_input_grad[:3]
        pair = None if column is None or d_column is None else (column, d_column)
        dq, dk = ctx.backend.gradients(problem, (row, d_row), pair, need_q or need_scale, need_k)
        d_scale = (dq * query).sum() / problem.scale if need_scale and dq is not None else None
        return _cast(dq if need_q else None, query), _cast(dk, key), d_scale, None, None, None, None


class Reduced(torch.autograd.Function):
    """Mean or sum of the losses; the forward pass makes the gradients, the backward pass multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, scale: Tensor, positive: Tensor | None, extra: Tensor | None,
        weight: Tensor | None, rules: Rules, symmetric: bool, reduction: str, workspace: int | None,
        backend: Backend,
    ) -> Tensor:  # fmt: skip
        """Reduce and differentiate in one go, or in two passes for symmetric losses."""
        need_q, need_k, need_scale, need_positive, need_extra = ctx.needs_input_grad[:5]
        problem = backend.Problem.of(query, key, scale, rules, workspace)
        b, given = len(query), positive is not None
        # A backend may keep half-precision inputs as they are; what is made here takes float32 or float64.
        q = problem.query.to(problem.scale.dtype)
        own_keys = None if given or rules.own is None else problem.key[rules.own : rules.own + b].to(q.dtype)
        if positive is None:
            assert own_keys is not None
            own_logits: Tensor = problem.scale * (q * own_keys).sum(-1)
            positive = own_logits
        factor = torch.ones_like(positive) if weight is None else weight
        factor = factor / max(1, b) if reduction == "mean" else factor
        d_positive = torch.zeros_like(positive)
        d_extra = None if extra is None else torch.zeros_like(extra)
        loss = positive.new_zeros(())

        def slope(rows: slice, row: Tensor, column: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            """Differentiate the vector part of some rows, add their losses, return the derivatives of the log sums."""
            leaves = {
                "row": row,
                "column": column,
                "positive": positive[rows],
                "extra": None if extra is None else extra[rows],
            }
            leaves = {name: t.detach().requires_grad_() for name, t in leaves.items() if t is not None}
            with torch.enable_grad():
                losses = (
                    losses_of(leaves["row"], leaves.get("column"), leaves["positive"], leaves.get("extra"))
                    * factor[rows]
                )
                found = dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values()))))
            loss.add_(losses.detach().sum())
            d_positive[rows] = found["positive"]
            if d_extra is not None:
                d_extra[rows] = found["extra"]
            return found["row"], found.get("column")

        make_q, make_k = need_q or need_scale, need_k
        if symmetric:
            row, column = backend.log_sums(problem, own_columns=True, keep=make_q or make_k)
            assert column is not None
            d_row, d_column = slope(slice(0, b), row, column)
            assert d_column is not None
            dq, dk = backend.gradients(problem, (row, d_row), (column, d_column), make_q, make_k)
        else:
            _, dq, dk = backend.fused(problem, lambda rows, row: slope(rows, row)[0], make_q, make_k)
        if own_keys is not None and rules.own is not None:
            pull = (d_positive * problem.scale)[:, None]
            if dq is not None:
                dq.addcmul_(pull, own_keys)
            if dk is not None:
                dk[rules.own : rules.own + b].addcmul_(pull, q)
        d_scale = (dq * q).sum() / problem.scale if need_scale and dq is not None else None
        ctx.save_for_backward(
            _kept(dq if need_q else None, query), _kept(dk, key), d_scale,
            d_positive if given and need_positive else None, d_extra if need_extra else None,
        )  # fmt: skip
        ctx.dtypes = query.dtype, key.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the gradients by the upstream factor."""
        _refuse_second_derivative()
        dq, dk, *others = (None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors)
        made = (None if grad is None else grad.to(dtype) for grad, dtype in zip((dq, dk), ctx.dtypes))
        return *made, *others, None, None, None, None, None, None


def _refuse_second_derivative() -> None:
    # Gradients are enabled in a backward pass only under create_graph. once_differentiable would let the case pass in which the
    # upstream gradient is a constant, and the second derivative would silently be 0.
    if torch.is_grad_enabled():
        raise RuntimeError(
            'info_nce and log_sum are differentiable once; got create_graph=True. Use backend="reference" for second derivatives.'
        )


def _kept(grad: Tensor | None, like: Tensor) -> Tensor | None:
    # The factor of a gradient scaler must come before float16's rounding: that is what it is for.
    return grad if like.dtype == torch.float16 else _cast(grad, like)


def _cast(grad: Tensor | None, like: Tensor) -> Tensor | None:
    return None if grad is None else grad.to(like.dtype)
