"""InfoNCE on a GPU: logits in Triton tiles, gradients as two library products; bounded memory, deterministic, no wait for the device.

A block of rows stores its exponentials ``E = 2^(z - r)`` once, and both gradients are plain products with E: 6·b·n·d operations in
one direction. r is a guess at each row's maximum, from norms. The true maxima are written along, and where a guess was not good
enough, which the device decides, the block is made again with them. Two directions need the sums of all columns first: 8·b·n·d, or 6
where all exponentials fit into the workspace.

Statistics and sums are float32. E is bfloat16 for half-precision inputs, with float32's range; for float32 inputs it is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inbatch.kernels.infonce.backend import Backend, Pair, finite, shift_and_weight
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.triton.launch import add_product, mix, product
from inbatch.kernels.infonce.triton.problem import (
    DEFAULT_WORKSPACE,
    LN2,
    LOWEST,
    Statistics,
    TiledProblem,
    exponentials,
)


@dataclass
class Gradients:
    """The sums dq (b, d) and dk (n, d), float32."""

    problem: TiledProblem
    dq: Tensor | None
    dk: Tensor | None

    @staticmethod
    def of(problem: TiledProblem, for_query: bool, for_key: bool) -> Gradients:
        """Make the sums, zero."""
        dq, dk = (
            torch.zeros_like(x, dtype=torch.float32) if wanted else None
            for x, wanted in ((problem.query, for_query), (problem.key, for_key))
        )
        return Gradients(problem, dq, dk)

    def add(self, rows: slice, e: Tensor, weight: Tensor | None) -> None:
        """Add ``diag(weight) e`` times the keys, and its transpose times the queries; the small operands carry the weight."""
        if self.dq is not None:
            dq = product(e, self.problem.narrow_key)
            self.dq[rows] = dq if weight is None else dq.mul_(weight[:, None])
        if self.dk is not None:
            q = self.problem.query[rows]
            q = q if weight is None else q * weight[:, None]
            add_product(self.dk, e.T, q.to(e.dtype))

    def result(self) -> tuple[Tensor | None, Tensor | None]:
        """Return dq (b, d) and dk (n, d), None where not asked for."""
        return self.dq, self.dk


class Tiled(Backend[TiledProblem]):
    """Triton tiles and library products; statistics and gradients are float32."""

    name = "triton"
    default_workspace = DEFAULT_WORKSPACE

    def problem(
        self, query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None
    ) -> TiledProblem:
        """Detach the inputs."""
        return TiledProblem.of(query, key, scale, rules, workspace_bytes)

    def log_sums(
        self, problem: TiledProblem, own_columns: bool = False, keep: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Let the tiles reduce; their maxima and sums are joined here."""
        b, n, own = len(problem.query), len(problem.key), problem.rules.own
        c = problem.block_rows(own_columns)
        keep = (
            keep
            and b * n * problem.narrow_key.element_size() + c * 16 * problem.query.shape[1] <= problem.workspace // 2
        )
        row = problem.scale.new_full((b,), -torch.inf)
        highest, total = problem.scale.new_full((b,), -torch.inf), problem.scale.new_zeros(b)
        with problem.arithmetic():
            guess = problem.guess() if keep and n else row
            for rows in problem.blocks(c):
                if keep:
                    e = problem.block(rows.stop - rows.start)
                    shift, sums, made = exponentials(problem, rows, guess, e, own_columns)
                    problem.kept[rows.start] = e, shift
                    row[rows] = (sums.log2_() + shift[rows]) * LN2
                else:
                    made = Statistics.of(problem, rows, own_columns)
                    problem.run(rows, row_sums=True, columns_too=own_columns, **made.outputs())
                    row[rows] = _merge(made.row_top, made.row_sum)
                if own_columns:
                    assert own is not None
                    assert made.column_top is not None
                    assert made.column_sum is not None
                    top, sums = (t[:, own : own + b] for t in (made.column_top, made.column_sum))
                    above = torch.maximum(highest, top.amax(0))
                    safe = finite(above)
                    total = total * (highest - safe).exp2() + (sums * (top - safe).exp2()).sum(0)
                    highest = above
        return row, (total.log2() + finite(highest)) * LN2 if own_columns else None

    def fused(
        self, problem: TiledProblem, slope: Callable[[slice, Tensor], Tensor], for_query: bool, for_key: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Store the exponentials of a block once and multiply them twice."""
        b, n = len(problem.query), len(problem.key)
        log_sum, made = problem.scale.new_full((b,), -torch.inf), Gradients.of(problem, for_query, for_key)
        with problem.arithmetic():
            if not n:
                slope(slice(0, b), log_sum)
                return log_sum, *made.result()
            c, guess = problem.block_rows(), problem.guess()
            memory = problem.block(c)
            for rows in problem.blocks(c):
                e = memory[: rows.stop - rows.start]
                shift, sums, _ = exponentials(problem, rows, guess, e)
                log_sum[rows] = (sums.log2() + shift[rows]) * LN2
                weight = slope(rows, log_sum[rows])
                made.add(rows, e, torch.where(sums > 0, weight * problem.scale / sums, 0.0))
        return log_sum, *made.result()

    def gradients(
        self, problem: TiledProblem, row: Pair, column: Pair | None, for_query: bool, for_key: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Let the tiles make their part of the gradient, or mix it from kept exponentials, and multiply it."""
        b, n, own = len(problem.query), len(problem.key), problem.rules.own
        made = Gradients.of(problem, for_query, for_key)
        if not n:
            return made.result()
        with problem.arithmetic():
            shift, weight = shift_and_weight(row, problem.scale)
            row_shift = shift / LN2
            if column is None:
                what = {"row_shift": row_shift, "row_factor": torch.ones_like(weight)}
            else:
                assert own is not None
                # A column that is no row's own has no part in it: 2^(z - inf) is 0.
                column_shift, column_factor = problem.scale.new_full((n,), torch.inf), problem.scale.new_zeros(n)
                shift, column_factor[own : own + b] = shift_and_weight(column, problem.scale)
                column_shift[own : own + b] = shift / LN2
                what = {
                    "row_shift": row_shift, "row_factor": weight, "column_shift": column_shift, "column_factor": column_factor,
                }  # fmt: skip
            c = problem.block_rows()
            memory = problem.block(0 if problem.kept else c)
            for rows in _known(problem) if problem.kept else problem.blocks(c):
                if problem.kept:
                    g, shift = problem.kept.pop(rows.start)
                    # Exponentials that matter to a column may have vanished against the rows' shifts: then they are made again.
                    low = what["column_shift"].amin() - shift[rows].amax() < LOWEST + 20
                    flag = low.to(torch.int32)
                    mix(g, flag, shift, first_row=rows.start, **what)
                    problem.run(rows, store="gradient", columns_too=True, flag=flag, out=g, **what)
                else:
                    g = memory[: rows.stop - rows.start]
                    problem.run(rows, store="gradient", columns_too=column is not None, out=g, **what)
                made.add(rows, g, weight[rows] if column is None else None)
                del g  # a kept block goes before the next is used
        return made.result()

    def logits(self, problem: TiledProblem) -> Iterator[tuple[slice, Tensor]]:
        """Let the tiles store block after block in one memory."""
        c = problem.block_rows(element=8)  # float32 logits, and what topk takes
        memory = problem.block(c, torch.float32)
        for rows in problem.blocks(c):
            s = memory[: rows.stop - rows.start]
            problem.run(rows, store="logits", out=s)
            yield rows, s


TILED = Tiled()


def _known(problem: TiledProblem) -> list[slice]:
    return [slice(start, start + len(e)) for start, (e, _) in sorted(problem.kept.items())]


def _merge(top: Tensor, sums: Tensor) -> Tensor:
    """Join the tiles of each row: (tiles, c) twice, to the log sums (c,) in nats."""
    highest = finite(top.amax(0))
    return ((sums * (top - highest).exp2()).sum(0).log2() + highest) * LN2
