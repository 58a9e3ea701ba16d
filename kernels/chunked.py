"""InfoNCE in plain torch, in blocks of rows: any device, float64, float32, bfloat16 and float16, no (b, n) matrix.

A block holds the logits of c rows against all keys, so that each row's true maximum and sum are known before its gradient is made:
6·b·n·d operations in one direction. Where the gradient needs statistics of all rows first (symmetric losses, gradients of
``log_sum``), the logits are computed twice: 8·b·n·d, or 6 where they all fit into the workspace.

Statistics are float32 (float64 for float64). Half-precision inputs are multiplied as float32 copies; bfloat16 values pass through
the CPU's bfloat16 matrix units with float32 accumulation and output, which is exact for the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inbatch.kernels.candidates import Rules

DEFAULT_WORKSPACE = 256 << 20
# Blocks beyond this size leave the processor's caches without making the matrix products faster.
COMFORTABLE_BLOCK = 32 << 20


@dataclass
class Problem:
    """One call's inputs in the dtype that they are multiplied in.

    Attributes:
        query: (b, d); key: (n, d); scale: 0-d; all float32 or float64, detached.
        rules: what excludes a pair.
        workspace: bytes allowed beyond inputs, gradients and vectors.
        fast_bf16: the values are bfloat16, so bfloat16 multipliers lose nothing.
        tiles: blocks of a call, kept between two passes where all of them fit.
    """

    query: Tensor
    key: Tensor
    scale: Tensor
    rules: Rules
    workspace: int = DEFAULT_WORKSPACE
    fast_bf16: bool = False
    tiles: dict[int, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None) -> Problem:
        """Detach and widen the inputs; the copies of half-precision inputs are taken out of the workspace."""
        workspace = DEFAULT_WORKSPACE if workspace_bytes is None else workspace_bytes
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        if query.dtype != dtype:
            workspace -= 4 * (query.numel() + key.numel())
        scale = torch.as_tensor(scale, dtype=dtype, device=query.device).detach()
        fast = query.dtype == torch.bfloat16 and query.device.type == "cpu"
        return Problem(query.detach().to(dtype), key.detach().to(dtype), scale, rules, workspace, fast)

    def block_rows(self, buffers: int) -> int:
        """Rows of a block, when ``buffers`` matrices of the block's size live at once.

        Raises:
            ValueError: if one row does not fit.
        """
        b, n, d = len(self.query), len(self.key), self.query.shape[1]
        element = self.query.element_size()
        per_row = max(1, buffers * n * element + self.rules.bytes_per_row(n) + 4 * d * element)
        fixed = self.rules.fixed_bytes()
        rows = (self.workspace - fixed) // per_row
        if rows < 1:
            missing = per_row + fixed - self.workspace
            raise ValueError(
                f"expected a workspace that holds one row of {n} logits; it is {missing} bytes short. "
                f"Raise workspace_bytes by at least {missing}."
            )
        return int(min(rows, max(256, COMFORTABLE_BLOCK // per_row), max(1, b)))

    def logits(self, start: int, stop: int, out: Tensor) -> Tensor:
        """Compute the masked logits of rows start … stop into ``out``."""
        # The scale comes after the product: a scaled query would no longer be exact in bfloat16.
        torch.mm(self.query[start:stop], self.key.T, out=out).mul_(self.scale)
        return self.rules.exclude_(out, start)

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """No gradients, no autocast (it would round float32 operands), bfloat16 multipliers where they are exact."""
        with torch.no_grad(), torch.autocast(self.query.device.type, enabled=False):
            if not self.fast_bf16:
                yield
                return
            before = torch.backends.mkldnn.matmul.fp32_precision
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            try:
                yield
            finally:
                torch.backends.mkldnn.matmul.fp32_precision = before


def log_sums(problem: Problem, own_columns: bool = False, keep: bool = False) -> tuple[Tensor, Tensor | None]:
    """Reduce the logits over each row, and over each row's own key's column.

    Args:
        problem: the call.
        own_columns: also reduce columns ``own … own + b`` over the rows.
        keep: hold the logits for `gradients`, if all of them fit into the workspace.

    Returns:
        ``(b,)`` log-sum-exp over a row's candidates, and ``(b,)`` over its own key's column or None; -inf where there are none.
    """
    q, n = problem.query, len(problem.key)
    b, own = len(q), problem.rules.own
    c = problem.block_rows(2 if own_columns else 1)
    keep = keep and b * n * q.element_size() + problem.block_rows(2) * n * q.element_size() <= problem.workspace
    buffer = q.new_empty(0 if keep else c, n)
    rows = q.new_empty(b)
    highest, total = q.new_full((b,), -torch.inf), q.new_zeros(b)
    with problem.arithmetic():
        for start in range(0, b, c):
            stop = min(start + c, b)
            tile = q.new_empty(stop - start, n) if keep else buffer[: stop - start]
            s = problem.logits(start, stop, tile)
            if keep:
                problem.tiles[start] = s
            if own_columns:
                assert own is not None
                columns = s[:, own : own + b]
                top = torch.maximum(highest, columns.amax(0))
                safe = _finite(top)
                total = total * (highest - safe).exp() + (columns - safe).exp_().sum(0)
                highest = top
            shift = _row_maximum(s)
            e = (s - shift[:, None]).exp_() if keep else s.sub_(shift[:, None]).exp_()
            rows[start:stop] = e.sum(1).log_().add_(shift)
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
    q, k = problem.query, problem.key
    b, n, c = len(q), len(k), problem.block_rows(1)
    buffer, log_sum = q.new_empty(c, n), q.new_empty(b)
    dq = torch.empty_like(q) if for_query else None
    dk = torch.zeros_like(k) if for_key else None
    with problem.arithmetic():
        for start in range(0, b, c):
            rows = slice(start, min(start + c, b))
            s = problem.logits(start, rows.stop, buffer[: rows.stop - start])
            shift = _row_maximum(s)
            e = s.sub_(shift[:, None]).exp_()
            total = e.sum(1)
            log_sum[rows] = total.log().add_(shift)
            weight = slope(rows, log_sum[rows])
            weight = torch.where(total > 0, weight * problem.scale / total, 0.0)
            _accumulate(problem, rows, e, weight, dq, dk)
    return log_sum, dq, dk


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
    q, k, own = problem.query, problem.key, problem.rules.own
    b, n = len(q), len(k)
    c = problem.block_rows(2 if column is not None else 1)
    if problem.tiles:
        c = len(problem.tiles[0])
    buffer = q.new_empty(0 if problem.tiles else c, n)
    dq = torch.empty_like(q) if for_query else None
    dk = torch.zeros_like(k) if for_key else None
    shift, weight = _finite(row[0]), torch.where(row[0].isneginf(), 0.0, row[1] * problem.scale)
    if column is not None:
        column = _finite(column[0]), torch.where(column[0].isneginf(), 0.0, column[1] * problem.scale)
    with problem.arithmetic():
        for start in range(0, b, c):
            rows = slice(start, min(start + c, b))
            s = problem.tiles.pop(start, None)
            s = problem.logits(start, rows.stop, buffer[: rows.stop - start]) if s is None else s
            if column is None:
                e = s.sub_(shift[rows, None]).exp_()
                _accumulate(problem, rows, e, weight[rows], dq, dk)
                continue
            assert own is not None
            of_columns = (s[:, own : own + b] - column[0]).exp_().mul_(column[1])
            e = s.sub_(shift[rows, None]).exp_().mul_(weight[rows, None])
            e[:, own : own + b] += of_columns
            _accumulate(problem, rows, e, None, dq, dk)
    return dq, dk


def hardest(problem: Problem, count: int) -> tuple[Tensor, Tensor]:
    """Find each row's ``count`` largest candidates: values (b, count) and indices (b, count), -inf and -1 where there are fewer."""
    q, b, n = problem.query, len(problem.query), len(problem.key)
    values = q.new_full((b, count), -torch.inf)
    indices = torch.full((b, count), -1, dtype=torch.int64, device=q.device)
    found = min(count, n)
    if b == 0 or found == 0:
        return values, indices
    c = problem.block_rows(1)
    buffer = q.new_empty(c, n)
    with problem.arithmetic():
        for start in range(0, b, c):
            stop = min(start + c, b)
            top = problem.logits(start, stop, buffer[: stop - start]).topk(found, dim=1)
            values[start:stop, :found] = top.values
            indices[start:stop, :found] = top.indices.masked_fill(top.values.isneginf(), -1)
    return values, indices


def _accumulate(
    problem: Problem, rows: slice, e: Tensor, weight: Tensor | None, dq: Tensor | None, dk: Tensor | None
) -> None:
    """Add ``diag(weight) e`` times the keys to dq, and its transpose times the queries to dk; the small operand is weighted."""
    if dq is not None:
        torch.mm(e, problem.key, out=dq[rows])
        if weight is not None:
            dq[rows] *= weight[:, None]
    if dk is not None:
        q = problem.query[rows]
        dk.addmm_(e.T, q if weight is None else q * weight[:, None])


def _row_maximum(s: Tensor) -> Tensor:
    return _finite(s.amax(1)) if s.shape[1] else s.new_zeros(len(s))


def _finite(shift: Tensor) -> Tensor:
    """Take 0 for the shift of a row without candidates: its exponentials are all 0 then, where -inf - -inf would be NaN."""
    return shift.masked_fill(shift.isneginf(), 0.0)
