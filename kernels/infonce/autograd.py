"""The operator as custom operations of torch, so that a compiled step calls it whole, and their derivatives.

`reduced` makes the gradients in the forward pass; `log_sums` makes them in the backward pass, from the logits computed again. Both
do the (b, n) work through a backend, `inbatch.kernels.infonce.chunked` or `inbatch.kernels.infonce.triton.passes`, whose functions have the same signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inbatch.kernels.infonce import checking, selection
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.reduction import reduce_and_differentiate

# A schema has no tuples: how `Rules` are spelled in one.
RULES = (
    "int? own, Tensor? query_ids, Tensor? key_ids, Tensor? ceiling, "
    "Tensor? guide_query, Tensor? guide_key, Tensor? guide_ceiling"
)
PAIRS = f"Tensor query, Tensor key, Tensor scale, {RULES}"
HOW = "int? workspace, str backend"
Spelled = tuple[int | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def spell(rules: Rules) -> Spelled:
    """Lay out rules as the arguments of an operation."""
    query, key, ceiling = rules.guide or (None, None, None)
    return rules.own, rules.query_ids, rules.key_ids, rules.ceiling, query, key, ceiling


def _rules(spelled: Sequence[Any]) -> Rules:
    own, query_ids, key_ids, ceiling, *guide = spelled
    return Rules(own, query_ids, key_ids, ceiling, None if guide[0] is None else tuple(guide))


@torch.library.custom_op(
    "inbatch::reduced", mutates_args=(),
    schema=f"({PAIRS}, Tensor? positive, Tensor? extra, Tensor? weight, bool symmetric, str reduction, bool[] wanted, {HOW}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)  # fmt: skip
def reduced(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, ...]:
    """Reduce the losses and make the gradients in one pass, or in two for symmetric losses.

    Args:
        query: (b, d); key: (n, d); scale: 0-d.
        more: in the order of the schema; ``wanted`` says of query, key, scale, positive and extra whether a gradient is made.

    Returns:
        The loss and the five gradients, without the upstream factor; empty where not wanted.
    """
    rules, (positive, extra, weight, symmetric, reduction, wanted, workspace, backend) = _rules(more[:7]), more[7:]
    checking.scale_value(scale)

    def work(module: Any, workspace: int | None) -> tuple[Tensor | None, ...]:
        return reduce_and_differentiate(
            module, module.Problem.of(query, key, scale, rules, workspace), positive, extra, weight, symmetric, reduction, wanted
        )  # fmt: skip

    with torch.no_grad():
        loss, *made = selection.attempt(work, backend, query, workspace)
        like = query, key, scale, positive, extra
        assert loss is not None
        return loss, *(_kept(g, x, query) for g, x in zip(made, like))


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
def _(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, ...]:
    positive, extra, wanted = more[7], more[8], more[12]
    made = [
        query.new_empty(0)
        if x is None or not needed
        else x.new_empty(x.shape, dtype=torch.float32 if x.dtype == torch.float16 else x.dtype)
        for x, needed in zip((query, key, scale, positive, extra), wanted)
    ]
    return scale.new_empty(()), *made


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.wanted, ctx.dtypes, ctx.count = inputs[15], (inputs[0].dtype, inputs[1].dtype), len(inputs)


def _multiply(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    _refuse_second_derivative()
    if upstream is None:
        return (None,) * ctx.count
    dtypes = *ctx.dtypes, None, None, None
    made = [
        (grad * upstream.to(grad.dtype)).to(dtype or grad.dtype) if wanted else None
        for grad, wanted, dtype in zip(ctx.saved_tensors, ctx.wanted, dtypes)
    ]
    # Query, key and scale come first, positive and extra after the seven that spell the rules.
    return *made[:3], *(None,) * 7, *made[3:], *(None,) * (ctx.count - 12)


reduced.register_autograd(_multiply, setup_context=_keep_gradients)


@torch.library.custom_op(
    "inbatch::log_sums", mutates_args=(), schema=f"({PAIRS}, bool columns, {HOW}) -> (Tensor, Tensor)"
)
def log_sums(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    """Reduce the logits of rows and, if asked, of the columns of the rows' own keys; see `chunked.log_sums`.

    Returns:
        Log sums (b,) of rows, and (b,) of columns or empty.
    """
    rules, (columns, workspace, backend) = _rules(more[:7]), more[7:]
    checking.scale_value(scale)

    def work(module: Any, workspace: int | None) -> tuple[Tensor, Tensor | None]:
        return module.log_sums(module.Problem.of(query, key, scale, rules, workspace), own_columns=columns)

    row, column = selection.attempt(work, backend, query, workspace)
    return row, row.new_empty(0) if column is None else column


@log_sums.register_fake
def _(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    return scale.new_empty(len(query)), scale.new_empty(len(query) if more[7] else 0)


@torch.library.custom_op(
    "inbatch::log_sum_gradients", mutates_args=(),
    schema=f"({PAIRS}, Tensor row, Tensor d_row, Tensor? column, Tensor? d_column, bool[] wanted, {HOW}) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
def log_sum_gradients(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Make the gradients of query, key and scale from known log sums; empty where not wanted."""
    rules, (row, d_row, column, d_column, (need_q, need_k, need_scale), workspace, backend) = _rules(more[:7]), more[7:]

    def work(module: Any, workspace: int | None) -> tuple[Tensor | None, Tensor | None]:
        problem = module.Problem.of(query, key, scale, rules, workspace)
        pair = None if column is None else (column, d_column)
        return module.gradients(problem, (row, d_row), pair, need_q or need_scale, need_k)

    dq, dk = selection.attempt(work, backend, query, workspace)
    d_scale = (dq * query).sum() / scale if need_scale and dq is not None else None
    return tuple(  # type: ignore[return-value]
        query.new_empty(0) if g is None else _plain(g, x.dtype)
        for g, x in ((dq if need_q else None, query), (dk, key), (d_scale, scale))
    )


@log_sum_gradients.register_fake
def _(query: Tensor, key: Tensor, scale: Tensor, *more: Any) -> tuple[Tensor, ...]:
    return tuple(
        x.new_empty(x.shape) if needed else query.new_empty(0) for x, needed in zip((query, key, scale), more[11])
    )


def _keep_log_sums(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors = (*inputs[:3], *inputs[4:10], *output)
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    ctx.own, (ctx.columns, ctx.workspace, ctx.backend) = inputs[3], inputs[10:]
    ctx.wanted = [t.requires_grad for t in inputs[:3]]


def _differentiate_log_sums(ctx: Any, d_row: Tensor | None, d_column: Tensor | None) -> tuple[Tensor | None, ...]:
    _refuse_second_derivative()
    query, key, scale, *spelled, row, column = ctx.saved_tensors
    nothing: tuple[None, ...] = (None,) * 10
    if d_row is None and d_column is None:
        return None, None, None, *nothing
    d_row = torch.zeros_like(row) if d_row is None else d_row
    pair = (column, d_column) if ctx.columns and d_column is not None else (None, None)
    made = log_sum_gradients(
        query, key, scale, ctx.own, *spelled, row, d_row, *pair, ctx.wanted, ctx.workspace, ctx.backend
    )
    return *(g if wanted else None for g, wanted in zip(made, ctx.wanted)), *nothing


log_sums.register_autograd(_differentiate_log_sums, setup_context=_keep_log_sums)


@torch.library.custom_op(
    "inbatch::hardest",
    mutates_args=(),
    schema=f"(Tensor query, Tensor key, int count, {RULES}, {HOW}) -> (Tensor, Tensor)",
)
def hardest(query: Tensor, key: Tensor, count: int, *more: Any) -> tuple[Tensor, Tensor]:
    """Find each row's hardest candidates; see `chunked.hardest`."""
    rules, (workspace, backend) = _rules(more[:7]), more[7:]

    def work(module: Any, workspace: int | None) -> tuple[Tensor, Tensor]:
        return module.hardest(module.Problem.of(query, key, 1.0, rules, workspace), count)

    return selection.attempt(work, backend, query, workspace)


@hardest.register_fake
def _(query: Tensor, key: Tensor, count: int, *more: Any) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    shape = len(query), count
    return query.new_empty(shape, dtype=wide), query.new_empty(shape, dtype=torch.int64)


def _refuse_second_derivative() -> None:
    # Gradients are enabled in a backward pass only under create_graph. once_differentiable would let the case pass in which the
    # upstream gradient is a constant, and the second derivative would silently be 0.
    if torch.is_grad_enabled():
        raise RuntimeError(
            'info_nce and log_sum are differentiable once; got create_graph=True. Use backend="reference" for second derivatives.'
        )
