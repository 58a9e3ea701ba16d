"""InfoNCE in plain torch, in blocks of rows: any device, float64, float32, bfloat16 and float16, no (b, n) matrix.

A block holds the logits of c rows against all keys, so that each row's true maximum and sum are known before its gradient is made:
6·b·n·d operations in one direction. Where the gradient needs statistics of all rows first (symmetric losses, gradients of
``log_sum``), the logits are computed twice: 8·b·n·d, or 6 where they all fit into the workspace.

Statistics are float32 (float64 for float64). The logits of half-precision inputs are products of float32 copies, hence exact up to
the order of the sum; the two gradient products of bfloat16 inputs use the CPU's bfloat16 units, where it has them, and float32 sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inbatch.kernels.infonce.blocking import DEFAULT_WORKSPACE as DEFAULT_WORKSPACE
from inbatch.kernels.infonce.blocking import Problem
from inbatch.kernels.infonce.products import add_product, product


@dataclass
class Gradients:
    """dq (b, d) and dk, held transposed (d, n): the layout in which both products read the block of logits as it lies."""

    problem: Problem
    dq: Tensor | None
    transposed_dk: Tensor | None
    rounded: Tensor | None = None

    @staticmethod
    def of(problem: Problem, for_query: bool, for_key: bool) -> Gradients:
        """Make the sums, zero for dk; dq is written row by row."""
        dq = torch.empty_like(problem.query) if for_query else None
        return Gradients(problem, dq, problem.key.new_zeros(problem.key.T.shape) if for_key else None)

    def add(self, rows: slice, e: Tensor, weight: Tensor | None) -> None:
        """Add ``diag(weight) e`` times the keys, and its transpose times the queries; the small operand carries the weight."""
        problem = self.problem
        if problem.narrow:
            e = self._narrow(e)
        if self.dq is not None:
            self.dq[rows] = product(e, problem.gradient_key)
            if weight is not None:
                self.dq[rows] *= weight[:, None]
        if self.transposed_dk is not None:
            q = problem.query[rows]
            q = q if weight is None else q * weight[:, None]
            add_product(self.transposed_dk, q.T.contiguous().to(e.dtype), e)

    def _narrow(self, e: Tensor) -> Tensor:
        """Round a block into a buffer that all blocks share: fresh memory would cost more than the rounding."""
        if self.rounded is None:
            self.rounded = torch.empty(e.shape, dtype=self.problem.narrow_key.dtype, device=e.device)
        return self.rounded[: len(e)].copy_(e)

    def result(self) -> tuple[Tensor | None, Tensor | None]:
        """Return dq (b, d) and dk (n, d), None where not asked for."""
        return self.dq, None if self.transposed_dk is None else self.transposed_dk.T


def log_sums(problem: Problem, own_columns: bool = False, keep: bool = False) -> tuple[Tensor, Tensor | None]:
    """Reduce the logits over each row, and over each row's own key's column.

    Args:
        problem: the call.
        own_columns: also reduce columns ``own … own + b`` over the rows.
        keep: hold the logits for `gradients`, if all of them fit into the workspace.

    Returns:
        Log-sum-exp, (b,), over a row's candidates, and over its own key's column, (b,) or None; -inf where there are none.
    """
    q, n, b, own = problem.query, len(problem.key), len(problem.query), problem.rules.own
    c = problem.block_rows(2 if own_columns else 1)
    keep = keep and b * n * q.element_size() + problem.block_rows(2) * n * q.element_size() <= problem.workspace
    rows = q.new_empty(b)
    highest, total = q.new_full((b,), -torch.inf), q.new_zeros(b)
    memory = problem.block(0 if keep else c)
    with problem.arithmetic():
        for block in problem.blocks(c):
            s = problem.logits(block, problem.block(c) if keep else memory)
            if keep:
                problem.tiles[block.start] = s
            if own_columns:
                assert own is not None
                columns = s[:, own : own + b]
                top = torch.maximum(highest, columns.amax(0))
                safe = _finite(top)
                total = total * (highest - safe).exp() + (columns - safe).exp_().sum(0)
                highest = top
            rows[block] = s.logsumexp(1) if keep else _softmax_(s)
    return rows, total.log_().add_(_finite(highest)) if own_columns else None


def fused(
    problem: Problem, slope: Callable[[slice, Tensor], Tensor], for_query: bool, for_key: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Reduce each row and make the gradients in the same pass.

    Args:
        problem: the call.
        slope: given rows and their log sums (c,), the derivative of the loss with respect to these, (c,).
        for_query: make dq.
        for_key: make dk.

    Returns:
        Log sums (b,), dq (b, d) or None, dk (n, d) or None.
    """
    c = problem.block_rows(1)
    log_sum, made = problem.query.new_empty(len(problem.query)), Gradients.of(problem, for_query, for_key)
    memory = problem.block(c)
    with problem.arithmetic():
        for block in problem.blocks(c):
            p = problem.logits(block, memory)
            log_sum[block] = _softmax_(p)
            weight = slope(block, log_sum[block])
            made.add(block, p, torch.where(log_sum[block].isneginf(), 0.0, weight * problem.scale))
    return log_sum, *made.result()


def gradients(
    problem: Problem, row: tuple[Tensor, Tensor], column: tuple[Tensor, Tensor] | None, for_query: bool, for_key: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Make the gradients from known log sums.

    Args:
        problem: the call that `log_sums` was given.
        row: log sums of the rows and the loss's derivatives with respect to them, (b,) each.
        column: the same for the columns of the rows' own keys.
        for_query: make dq.
        for_key: make dk.

    Returns:
        dq (b, d) or None, dk (n, d) or None.
    """
    b, own = len(problem.query), problem.rules.own
    c = problem.block_rows(2 if column is not None else 1)
    c = len(problem.tiles[0]) if problem.tiles else c
    made = Gradients.of(problem, for_query, for_key)
    shift, weight = _finite(row[0]), torch.where(row[0].isneginf(), 0.0, row[1] * problem.scale)
    if column is not None:
        column = _finite(column[0]), torch.where(column[0].isneginf(), 0.0, column[1] * problem.scale)
    memory = problem.block(0 if problem.tiles else c)
    with problem.arithmetic():
        for block in problem.blocks(c):
            e = problem.tiles.pop(block.start) if problem.tiles else problem.logits(block, memory)
            if column is None:
                made.add(block, e.sub_(shift[block, None]).exp_(), weight[block])
            else:
                assert own is not None
                of_columns = (e[:, own : own + b] - column[0]).exp_().mul_(column[1])
                e.sub_(shift[block, None]).exp_().mul_(weight[block, None])
                e[:, own : own + b] += of_columns
                made.add(block, e, None)
                del of_columns
            del e  # a kept block goes before the next is used
    return made.result()


def hardest(problem: Problem, count: int) -> tuple[Tensor, Tensor]:
    """Find each row's ``count`` largest candidates: values (b, count) and indices (b, count), -inf and -1 where there are fewer."""
    q, b, n = problem.query, len(problem.query), len(problem.key)
    values = q.new_full((b, count), -torch.inf)
    indices = torch.full((b, count), -1, dtype=torch.int64, device=q.device)
    found = min(count, n)
    if b == 0 or found == 0:
        return values, indices
    c = problem.block_rows(1)
    memory = problem.block(c)
    with problem.arithmetic():
        for block in problem.blocks(c):
            top = problem.logits(block, memory).topk(found, dim=1)
            values[block, :found] = top.values
            indices[block, :found] = top.indices.masked_fill(top.values.isneginf(), -1)
    return values, indices


def _softmax_(s: Tensor) -> Tensor:
    """Turn rows of logits into probabilities, in one pass where exp and sum would take four, and return their log sums."""
    if not s.shape[1]:
        return s.new_full((len(s),), -torch.inf)
    top = s.amax(1)
    empty = top.isneginf()
    # A row without candidates gets one, which counts for nothing, so that its probabilities are numbers.
    s[:, 0].masked_fill_(empty, 0.0)
    torch.softmax(s, 1, out=s)
    return (top - s.amax(1).log()).masked_fill_(empty, -torch.inf)


def _finite(shift: Tensor) -> Tensor:
    """Take 0 for the shift of a row without candidates: its exponentials are all 0 then, where -inf - -inf would be NaN."""
    return shift.masked_fill(shift.isneginf(), 0.0)
