"""The operator as custom operations of torch, so that a compiled step calls it whole, and their derivatives.

`reduced` makes the gradients in the forward pass; `log_sums` makes them in the backward pass, from the logits computed again. Both
do the (b, n) work through a `Backend`. What they take, by name, stands in `inputs`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inbatch.kernels.infonce import checking, selection
from inbatch.kernels.infonce.backend import Backend
from inbatch.kernels.infonce.inputs import (
    HardestInputs,
    LogSumGradientsInputs,
    LogSumsInputs,
    ReducedInputs,
    in_order,
    schema_of,
    tensors_of,
)
from inbatch.kernels.infonce.reduction import reduce_and_differentiate


@torch.library.custom_op("inbatch::reduced", mutates_args=(), schema=schema_of(ReducedInputs, 6))
def reduced(*arguments: Any) -> tuple[Tensor, ...]:
    """Reduce the losses and make the gradients in one pass, or in two for symmetric losses.

    Args:
        arguments: `ReducedInputs`.

    Returns:
        The loss and the gradients of query, key, scale, positive and extra, without the upstream factor; empty where not wanted.
    """
    given = ReducedInputs(*arguments)
    checking.scale_value(given.scale)

    def work(backend: Backend[Any], workspace: int | None) -> tuple[Tensor | None, ...]:
        problem = backend.problem(given.query, given.key, given.scale, given.rules, workspace)
        return reduce_and_differentiate(
            backend, problem, given.positive, given.extra, given.weight, given.symmetric, given.reduction, given.wanted
        )

    with torch.no_grad():
        loss, *made = selection.attempt(work, given.backend, given.query, given.workspace)
        like = given.query, given.key, given.scale, given.positive, given.extra
        assert loss is not None
        return loss, *(_kept(g, x, given.query) for g, x in zip(made, like))


def _kept(grad: Tensor | None, like: Tensor | None, query: Tensor) -> Tensor:
    if grad is None or like is None:
        return query.new_empty(0)
    # The factor of a gradient scaler must come before float16's rounding: that is what it is for.
    dtype = grad.dtype if like.dtype == torch.float16 else like.dtype
    return _plain(grad, dtype)


def _plain(grad: Tensor, dtype: torch.dtype) -> Tensor:
    # Row by row, as the operation's fake says: the chunked backend sums the keys' gradient transposed.
    return grad.to(dtype, memory_format=torch.contiguous_format).contiguous()


@reduced.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    given = ReducedInputs(*arguments)
    made = [
        given.query.new_empty(0)
        if x is None or not needed
        else x.new_empty(x.shape, dtype=torch.float32 if x.dtype == torch.float16 else x.dtype)
        for x, needed in zip((given.query, given.key, given.scale, given.positive, given.extra), given.wanted)
    ]
    return given.scale.new_empty(()), *made


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    given = ReducedInputs(*inputs)
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.wanted, ctx.dtypes = given.wanted, (given.query.dtype, given.key.dtype)


def _multiply(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    _refuse_second_derivative()
    if upstream is None:
        return in_order(ReducedInputs)
    dtypes = *ctx.dtypes, None, None, None
    query, key, scale, positive, extra = (
        _scaled(grad, upstream).to(dtype or grad.dtype) if wanted else None
        for grad, wanted, dtype in zip(ctx.saved_tensors, ctx.wanted, dtypes)
    )
    return in_order(ReducedInputs, query=query, key=key, scale=scale, positive=positive, extra=extra)


def _scaled(grad: Tensor, factor: Tensor) -> Tensor:
    """Multiply; a factor that were rounded to bfloat16 first would scale all of a gradient alike, by up to 0.4 %."""
    if grad.dtype != torch.bfloat16:
        return grad * factor.to(grad.dtype)
    # A factor of one dimension makes the products float32, and a GPU rounds them as it writes: no wider copy of the gradient.
    return torch.mul(grad, factor.view(1), out=torch.empty_like(grad))


reduced.register_autograd(_multiply, setup_context=_keep_gradients)


@torch.library.custom_op("inbatch::log_sums", mutates_args=(), schema=schema_of(LogSumsInputs, 2))
def log_sums(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Reduce the logits of rows and, if asked, of the columns of the rows' own keys; see `Backend.log_sums`.

    Args:
        arguments: `LogSumsInputs`.

    Returns:
        Log sums (b,) of rows, and (b,) of columns or empty.
    """
    given = LogSumsInputs(*arguments)
    checking.scale_value(given.scale)

    def work(backend: Backend[Any], workspace: int | None) -> tuple[Tensor, Tensor | None]:
        problem = backend.problem(given.query, given.key, given.scale, given.rules, workspace)
        return backend.log_sums(problem, own_columns=given.columns)

    row, column = selection.attempt(work, given.backend, given.query, given.workspace)
    return row, row.new_empty(0) if column is None else column


@log_sums.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = LogSumsInputs(*arguments)
    return given.scale.new_empty(len(given.query)), given.scale.new_empty(len(given.query) if given.columns else 0)


@torch.library.custom_op("inbatch::log_sum_gradients", mutates_args=(), schema=schema_of(LogSumGradientsInputs, 3))
def log_sum_gradients(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Make the gradients of query, key and scale from known log sums; empty where not wanted.

    Args:
        arguments: `LogSumGradientsInputs`.
    """
    given = LogSumGradientsInputs(*arguments)
    need_query, need_key, need_scale = given.wanted

    def work(backend: Backend[Any], workspace: int | None) -> tuple[Tensor | None, Tensor | None]:
        problem = backend.problem(given.query, given.key, given.scale, given.rules, workspace)
        known = given.column, given.d_column
        column = None if known[0] is None or known[1] is None else (known[0], known[1])
        return backend.gradients(problem, (given.row, given.d_row), column, need_query or need_scale, need_key)

    dq, dk = selection.attempt(work, given.backend, given.query, given.workspace)
    d_scale = (dq * given.query).sum() / given.scale if need_scale and dq is not None else None
    made = (dq if need_query else None, given.query), (dk, given.key), (d_scale, given.scale)
    query, key, scale = (given.query.new_empty(0) if g is None else _plain(g, x.dtype) for g, x in made)
    return query, key, scale


@log_sum_gradients.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    given = LogSumGradientsInputs(*arguments)
    return tuple(
        x.new_empty(x.shape) if needed else given.query.new_empty(0)
        for x, needed in zip((given.query, given.key, given.scale), given.wanted)
    )


def _keep_log_sums(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    given = LogSumsInputs(*inputs)
    tensors, ctx.others = tensors_of(given)
    ctx.names = tuple(tensors)
    ctx.save_for_backward(*tensors.values(), *output)
    ctx.set_materialize_grads(False)
    ctx.wanted = [t.requires_grad for t in (given.query, given.key, given.scale)]


def _differentiate_log_sums(ctx: Any, d_row: Tensor | None, d_column: Tensor | None) -> tuple[Tensor | None, ...]:
    _refuse_second_derivative()
    if d_row is None and d_column is None:
        return in_order(LogSumsInputs)
    *tensors, row, column = ctx.saved_tensors
    d_row = torch.zeros_like(row) if d_row is None else d_row
    given = {**dict(zip(ctx.names, tensors)), **ctx.others}
    if not given.pop("columns") or d_column is None:
        column = d_column = None
    made = log_sum_gradients(**given, row=row, d_row=d_row, column=column, d_column=d_column, wanted=ctx.wanted)
    query, key, scale = (g if wanted else None for g, wanted in zip(made, ctx.wanted))
    return in_order(LogSumsInputs, query=query, key=key, scale=scale)


log_sums.register_autograd(_differentiate_log_sums, setup_context=_keep_log_sums)


@torch.library.custom_op("inbatch::hardest", mutates_args=(), schema=schema_of(HardestInputs, 2))
def hardest(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Find each row's hardest candidates; see `Backend.hardest`.

    Args:
        arguments: `HardestInputs`.
    """
    given = HardestInputs(*arguments)

    def work(backend: Backend[Any], workspace: int | None) -> tuple[Tensor, Tensor]:
        return backend.hardest(backend.problem(given.query, given.key, 1.0, given.rules, workspace), given.count)

    return selection.attempt(work, given.backend, given.query, given.workspace)


@hardest.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = HardestInputs(*arguments)
    wide = torch.float64 if given.query.dtype == torch.float64 else torch.float32
    shape = len(given.query), given.count
    return given.query.new_empty(shape, dtype=wide), given.query.new_empty(shape, dtype=torch.int64)


def _refuse_second_derivative() -> None:
    # Gradients are enabled in a backward pass only under create_graph. once_differentiable would let the case pass in which the
    # upstream gradient is a constant, and the second derivative would silently be 0.
    if torch.is_grad_enabled():
        raise RuntimeError(
            'info_nce and log_sum are differentiable once; got create_graph=True. Use backend="reference" for second derivatives.'
        )
