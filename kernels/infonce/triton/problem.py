"""One call of the Triton backend: its inputs, its blocks, what the tiles write, and exponentials under a shift that is good enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inbatch.kernels.infonce.backend import Problem, finite
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.checking import scale_tensor
from inbatch.kernels.infonce.triton.launch import Tile, capability_of, launch, tile_of

DEFAULT_WORKSPACE = 4 << 30
# Rows of a block beyond which nothing becomes faster.
COMFORTABLE_ROWS = 8192
# Exponents in base 2 that a row's largest entry may have: 2^26 of the highest have a finite sum, and what is 2^-24 of the lowest is
# still a normal number.
LOWEST, HIGHEST = -100.0, 64.0
# A row's shift is the bound of its logits less this many nats, so that no entry exceeds 2^58.
HEADROOM = 40.0
LN2 = math.log(2.0)


@dataclass
class TiledProblem(Problem):
    """One call's inputs as they came: float32, bfloat16 or float16, contiguous; scale: float32.

    Attributes:
        narrow_key: the operand of the gradient's product: the key, as bfloat16 if it is float16.
        kept: blocks of exponentials and their shifts, by first row, held between two passes where all of them fit.
    """

    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @staticmethod
    def of(
        query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None
    ) -> TiledProblem:
        """Detach the inputs."""
        query, key = query.detach().contiguous(), key.detach().contiguous()
        scale = scale_tensor(scale, torch.float32, query.device).detach()
        workspace = DEFAULT_WORKSPACE if workspace_bytes is None else workspace_bytes
        narrow = key.bfloat16() if key.dtype == torch.float16 else key
        if narrow is not key:
            workspace -= 2 * key.numel()
        return TiledProblem(query, key, scale, rules.contiguous(), narrow, workspace)

    def tile(self, columns_too: bool) -> Tile:
        """Return the tile of this call's launches."""
        return tile_of(self.query.dtype, self.rules, columns_too, capability_of(self.query.device))

    def block_rows(self, columns_too: bool = False, element: int | None = None) -> int:
        """Rows of a block.

        Raises:
            ValueError: if not even one tile's rows fit.
        """
        b, n, d = len(self.query), len(self.key), self.query.shape[1]
        tile = self.tile(columns_too)
        element = self.narrow_key.element_size() if element is None else element
        # What is stored, two numbers a row of each tile, and products and operands of the embedding's width.
        per_row = n * element + 8 * -(-n // tile.columns) + 16 * d
        per_tile = 8 * n if columns_too else 0
        least = min(tile.rows, max(1, b))
        fixed = 16 * n if columns_too else 0
        if (missing := least * per_row + per_tile + fixed - self.workspace) > 0:
            raise ValueError(
                f"expected a workspace that holds one tile of {least} rows against {n} keys; it is {missing} bytes short. "
                f"Raise workspace_bytes by at least {missing}."
            )
        tiles = (self.workspace - fixed) // (tile.rows * per_row + per_tile)
        return max(least, min(tiles * tile.rows, COMFORTABLE_ROWS, b))

    def block(self, rows: int, dtype: torch.dtype | None = None) -> Tensor:
        """Make a block's memory, (rows, n)."""
        return self.query.new_empty(rows, len(self.key), dtype=self.narrow_key.dtype if dtype is None else dtype)

    def blocks(self, rows: int) -> Iterator[slice]:
        """Cut all rows into blocks; none where there are no keys."""
        return super().blocks(rows) if len(self.key) else iter(())

    def guess(self) -> Tensor:
        """Return each row's shift in base 2: the bound of its logits less the headroom, but not below 0."""
        norms = [torch.linalg.vector_norm(x, dim=1, dtype=torch.float32) for x in (self.query, self.key)]
        return (self.scale * norms[0] * norms[1].amax() - HEADROOM).clamp_(min=0.0) / LN2

    def run(self, rows: slice, **what: object) -> None:
        """Launch the tiles of some rows."""
        launch(self.query, self.key, self.scale, self.rules, rows, **what)  # type: ignore[arg-type]


@dataclass
class Statistics:
    """What the tiles of a block of rows write: largest values and sums, one row of numbers a tile."""

    row_top: Tensor
    row_sum: Tensor
    column_top: Tensor | None
    column_sum: Tensor | None

    @staticmethod
    def of(problem: TiledProblem, rows: slice, columns_too: bool) -> Statistics:
        """Make the memory."""
        n, count = len(problem.key), rows.stop - rows.start
        tile = problem.tile(columns_too)
        top, total = (problem.scale.new_empty(-(-n // tile.columns), count) for _ in range(2))
        columns = (
            (problem.scale.new_empty(-(-count // tile.rows), n) for _ in range(2)) if columns_too else (None, None)
        )
        return Statistics(top, total, *columns)

    def outputs(self) -> dict[str, Tensor | None]:
        """Name the memory for a launch."""
        return {
            "row_top": self.row_top,
            "row_sum": self.row_sum,
            "column_top": self.column_top,
            "column_sum": self.column_sum,
        }


def exponentials(
    problem: TiledProblem, rows: slice, guess: Tensor, out: Tensor, columns_too: bool = False
) -> tuple[Tensor, Tensor, Statistics]:
    """Store ``2^(z - shift)`` of some rows.

    Args:
        problem: the call.
        rows: of the queries.
        guess: (b,), the first try of the shift.
        out: (c, n).
        columns_too: also reduce the columns.

    Returns:
        shift (b,), right in ``rows``; sums (c,) of the exponentials; the tiles' statistics.
    """
    made = Statistics.of(problem, rows, columns_too)
    what = {"store": "exponentials", "row_sums": True, "columns_too": columns_too, "out": out, **made.outputs()}
    problem.run(rows, row_shift=guess, **what)
    top = made.row_top.amax(0)
    height = top - guess[rows]
    flag = (((height < LOWEST) | (height > HIGHEST)) & ~top.isneginf()).any().to(torch.int32)
    shift = guess.clone()
    shift[rows] = torch.where(flag.bool(), finite(top), guess[rows])
    problem.run(rows, row_shift=shift, flag=flag, **what)
    return shift, made.row_sum.sum(0), made
