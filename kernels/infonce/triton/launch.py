"""From tensors to launches of the Triton kernels: tile sizes, arguments, grids, and the two library products."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.triton.kernel import mix_kernel, tile_kernel

# The interpreter holds bfloat16 as integers and would multiply these: its operands are widened first.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


@dataclass(frozen=True)
class Tile:
    """The shape of a program's tile and how it is computed."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8


# Chosen so that nothing spills out of the registers of compute capability 8.0, 9.0 and 10.0 (tests/kernels/infonce/triton/test_compiled.py).
WIDE, SQUARE, SMALLER, SINGLE = (
    Tile(128, 256, 64, 8, 3),
    Tile(128, 128, 64, 8, 3),
    Tile(64, 128, 64, 8, 3),
    Tile(64, 64, 32, 8, 3),
)
MIXED = Tile(16, 512, 0, 4, 1)
GUIDE_DEPTH = 16  # a guide's product is of float32 vectors
SMALL = Tile(
    32, 32, 32, 4, 1, group=2
)  # for the interpreter, whose time goes with the number of programs and their size


def tile_of(dtype: torch.dtype, rules: Rules, columns_too: bool = False, capability: int = 9) -> Tile:
    """Return the tile for inputs of this dtype; ids, a guide's product and column sums take registers of their own.

    Args:
        dtype: of queries and keys.
        rules: of the call.
        columns_too: whether columns are reduced or differentiated.
        capability: major number of the GPU's compute capability.
    """
    if INTERPRETED:
        return SMALL
    if dtype == torch.float32:
        return SINGLE
    if rules.guide is not None or (rules.query_ids is not None and capability >= 10):
        return SMALLER
    return WIDE if capability >= 9 and rules.query_ids is None and not columns_too else SQUARE


@cache
def capability_of(device: torch.device) -> int:
    """Return the major number of a GPU's compute capability; 9 where there is no GPU, as in the interpreter."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 9


def constants(dtype: torch.dtype, rules: Rules, width: int, tile: Tile) -> dict[str, Any]:
    """Return what a kernel is compiled for, beside its switches."""
    guide = rules.guide
    return {
        "OWN": rules.own is not None,
        "QUERY_IDS": 0 if rules.query_ids is None else rules.query_ids.shape[1],
        "KEY_IDS": 0 if rules.key_ids is None else rules.key_ids.shape[1],
        "CEILING": rules.ceiling is not None,
        "GUIDE": guide is not None,
        "EVEN": width % tile.depth == 0,
        "GUIDE_EVEN": guide is not None and guide[0].shape[1] % GUIDE_DEPTH == 0,
        "PRECISION": "ieee",
        "WIDEN": INTERPRETED and dtype != torch.float32,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "GUIDE_DEPTH": GUIDE_DEPTH,
        "GROUP": tile.group,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def launch(
    query: Tensor, key: Tensor, scale: Tensor, rules: Rules, rows: slice, *, store: str = "nothing", row_sums: bool = False,
    columns_too: bool = False, flag: Tensor | None = None, out: Tensor | None = None, row_shift: Tensor | None = None,
    row_factor: Tensor | None = None, column_shift: Tensor | None = None, column_factor: Tensor | None = None,
    row_top: Tensor | None = None, row_sum: Tensor | None = None, column_top: Tensor | None = None,
    column_sum: Tensor | None = None,
) -> None:  # fmt: skip
    """Run `tile_kernel` over some rows and all keys; arguments are described there."""
    count, n = rows.stop - rows.start, len(key)
    tile = tile_of(query.dtype, rules, columns_too, capability_of(query.device))
    fixed = constants(query.dtype, rules, query.shape[1], tile)
    guide_query, guide_key, guide_ceiling = rules.guide or (None, None, None)
    grid = (-(-count // fixed["ROWS"]) * -(-n // fixed["COLUMNS"]),)
    run: Any = tile_kernel[grid]
    run(
        query, key, scale, flag,
        rules.query_ids, rules.key_ids, rules.ceiling, guide_query, guide_key, guide_ceiling,
        row_shift, row_factor, column_shift, column_factor,
        out, row_top, row_sum, column_top, column_sum,
        rows.start, count, n, rules.own or 0, query.shape[1], 0 if guide_query is None else guide_query.shape[1],
        STORE=store, ROW_SUMS=row_sums, COLUMNS_TOO=columns_too, FLAGGED=flag is not None, **fixed,
    )  # fmt: skip


def mix(
    kept: Tensor, flag: Tensor, kept_shift: Tensor, row_shift: Tensor, row_factor: Tensor, column_shift: Tensor,
    column_factor: Tensor, first_row: int,
) -> None:  # fmt: skip
    """Run `mix_kernel` over a block of stored exponentials."""
    tile = SMALL if INTERPRETED else MIXED
    grid = (-(-kept.shape[0] // tile.rows), -(-kept.shape[1] // tile.columns))
    run: Any = mix_kernel[grid]
    run(
        kept, flag, kept_shift, row_shift, row_factor, column_shift, column_factor, kept.shape[0], kept.shape[1], first_row,
        ROWS=tile.rows, COLUMNS=tile.columns, num_warps=tile.warps,
    )  # fmt: skip


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply (m, k) by (k, n) with float32 sums and a float32 result."""
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Add (m, k) times (k, n) to the float32 matrix ``out``, in place."""
    if a.dtype != torch.float32 and a.is_cuda:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
    else:
        out.addmm_(a.float(), b.float())
