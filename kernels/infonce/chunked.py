"""InfoNCE in plain torch, in blocks of rows: any device, float64, float32, bfloat16 and float16, no (b, n) matrix.

A block holds the logits of c rows against all keys, so that each row's true maximum and sum are known before its gradient is made:
6·b·n·d operations in one direction. Where the gradient needs statistics of all rows first (symmetric losses, gradients of
``log_sum``), the logits are computed twice: 8·b·n·d, or 6 where they all fit into the workspace.

Statistics are float32 (float64 for float64). The logits of half-precision inputs are products of float32 copies, hence exact up to
the order of the sum; the two gradient products of bfloat16 inputs use the CPU's bfloat16 units, where it has them, and float32 sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inbatch.kernels.infonce.backend import Backend, Pair, finite, shift_and_weight
from inbatch.kernels.infonce.blocking import DEFAULT_WORKSPACE, BlockedProblem
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.products import add_product, product


@dataclass
class Gradients:
    """dq (b, d) and dk, held transposed (d, n): the layout in which both products read the block of logits as it lies."""

    problem: BlockedProblem
    dq: Tensor | None
    transposed_dk: Tensor | None
    rounded: Tensor | None = None

    @staticmethod
    def of(problem: BlockedProblem, for_query: bool, for_key: bool) -> Gradients:
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


class Chunked(Backend[BlockedProblem]):
    """Plain torch."""

    name = "chunked"
    default_workspace = DEFAULT_WORKSPACE

    def problem(
        self, query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None
    ) -> BlockedProblem:
        """Detach and widen the inputs."""
        return BlockedProblem.of(query, key, scale, rules, workspace_bytes)

    def log_sums(
        self, problem: BlockedProblem, own_columns: bool = False, keep: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Reduce block after block of rows; the columns are reduced along, against the highest logit so far."""
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
                    safe = finite(top)
                    total = total * (highest - safe).exp() + (columns - safe).exp_().sum(0)
                    highest = top
                rows[block] = s.logsumexp(1) if keep else _softmax_(s)
        return rows, total.log_().add_(finite(highest)) if own_columns else None

    def fused(
        self, problem: BlockedProblem, slope: Callable[[slice, Tensor], Tensor], for_query: bool, for_key: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Turn each block into probabilities and multiply it at once: 6·b·n·d operations."""
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
        self, problem: BlockedProblem, row: Pair, column: Pair | None, for_query: bool, for_key: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Make each block again, or take the kept one, and multiply it."""
        b, own = len(problem.query), problem.rules.own
        c = problem.block_rows(2 if column is not None else 1)
        c = len(problem.tiles[0]) if problem.tiles else c
        made = Gradients.of(problem, for_query, for_key)
        shift, weight = shift_and_weight(row, problem.scale)
        column = None if column is None else shift_and_weight(column, problem.scale)
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

    def logits(self, problem: BlockedProblem) -> Iterator[tuple[slice, Tensor]]:
        """Make block after block in one memory."""
        c = problem.block_rows(1)
        memory = problem.block(c)
        for block in problem.blocks(c):
            yield block, problem.logits(block, memory)


CHUNKED = Chunked()


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
