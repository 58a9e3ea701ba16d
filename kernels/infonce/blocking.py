"""One call of the chunked backend: its inputs in the dtype that they are multiplied in, and its blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from inbatch.kernels.infonce.backend import Problem
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.checking import scale_tensor
from inbatch.kernels.infonce.products import (
    SCALED_SLAB,
    SLAB,
    bfloat16_units,
    packed,
    packs,
    scaled_product,
    slab_elements,
    slabs_of,
)

DEFAULT_WORKSPACE = 256 << 20
# Bytes of a block and what goes with it, beyond which nothing became faster.
COMFORTABLE_BLOCK = 45 << 20
# Rows that packed operands are laid out for; a hint.
USUAL_ROWS = 1024


@dataclass
class BlockedProblem(Problem):
    """One call's inputs in the dtype that they are multiplied in: query, key and scale are all float32 or float64.

    Attributes:
        narrow_key: the gradient products' operand: the input itself for bfloat16 where the CPU has units for it, else ``key``.
        packing: hold the keys in the layout of the products, too; not where they would take more than a quarter of the workspace.
        tiles: blocks of a call, kept between two passes where all of them fit.
    """

    packing: bool
    tiles: dict[int, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(
        query: Tensor, key: Tensor, scale: Tensor | float, rules: Rules, workspace_bytes: int | None
    ) -> BlockedProblem:
        """Detach and widen the inputs; the copies of half-precision inputs are taken out of the workspace."""
        workspace = DEFAULT_WORKSPACE if workspace_bytes is None else workspace_bytes
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        if query.dtype != dtype:
            workspace -= 4 * (query.numel() + key.numel())
            if workspace_bytes is None:
                # Copies that are larger than the usual workspace are no reason to refuse a call.
                workspace = max(workspace, DEFAULT_WORKSPACE // 4)
        scale = scale_tensor(scale, dtype, query.device).detach()
        wide_key = key.detach().to(dtype)
        narrow = query.dtype == torch.bfloat16 and query.device.type == "cpu" and bfloat16_units()
        narrow_key = key.detach().contiguous() if narrow else wide_key
        # Two operands, and the transpose from which one of them is made.
        copies = wide_key.element_size() * wide_key.numel() * (1 if narrow else 3)
        packing = packs(wide_key) and 4 * copies <= workspace
        workspace -= copies if packing else 0
        return BlockedProblem(query.detach().to(dtype), wide_key, scale, rules, narrow_key, workspace, packing)

    @property
    def narrow(self) -> bool:
        """Say whether the gradient products' operands are bfloat16."""
        return self.narrow_key.dtype != self.key.dtype

    @cached_property
    def key_slabs(self) -> list[Tensor]:
        """The operand of the logits."""
        return slabs_of(self.key, USUAL_ROWS if self.packing else None)

    @cached_property
    def gradient_key(self) -> Tensor:
        """The operand of the queries' gradient."""
        return packed(self.narrow_key, USUAL_ROWS) if self.packing else self.narrow_key

    def block_rows(self, buffers: int) -> int:
        """Rows of a block, when ``buffers`` matrices of the block's size live at once.

        Raises:
            ValueError: if one row does not fit.
        """
        b, n, d = len(self.query), len(self.key), self.query.shape[1]
        element = self.query.element_size()
        # Logits, what the rules take, a narrow copy, and a few vectors of the embedding's width.
        copy = 2 * n if self.narrow else 0
        # Slabs of the two products; one narrower than the block is a copy.
        slab = (min(n, SCALED_SLAB) + (SLAB if n > SLAB else 0)) * element
        per_row = max(1, buffers * n * element + slab + copy + self.rules.bytes_per_row(n) + 8 * d * element)
        fixed = self.rules.fixed_bytes() + slab_elements(d, n) * element
        rows = (self.workspace - fixed) // per_row
        if rows < 1:
            missing = per_row + fixed - self.workspace
            raise ValueError(
                f"expected a workspace that holds one row of {n} logits; it is {missing} bytes short. "
                f"Raise workspace_bytes by at least {missing}."
            )
        return int(min(rows, max(512, COMFORTABLE_BLOCK // per_row), max(1, b)))

    def block(self, rows: int) -> Tensor:
        """Make a block's memory, (c, n), for `logits` to write into again and again."""
        return self.query.new_empty(rows, len(self.key))

    def logits(self, rows: slice, block: Tensor) -> Tensor:
        """Compute the masked logits of some rows in the first rows of a block."""
        # The scale comes after the product: one rounding less where the inputs are bfloat16 values.
        s = scaled_product(self.query[rows], self.key_slabs, self.scale, block[: rows.stop - rows.start])
        return self.rules.exclude_(s, rows.start)
