"""The Triton kernel: one tile of the matrix of logits, without the pairs that are no candidates, and what is kept of it.

A program makes a tile of ``z = log2(e)·scale·q·kᵀ`` in float32 and then, as its switches say, writes the tile's largest value and
sum of each row or of each column, or stores its exponentials against a shift of each row, its part of the gradient, or its logits.
All is in base 2. Sums are of unrounded exponentials; nothing is added atomically, so that every result is deterministic.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
NOTHING = tl.constexpr(float("-inf"))


@triton.jit
def _product(
    left, right, rows, columns, live_rows, live_columns, width,
    EVEN: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Multiply rows of two row-major matrices of ``width`` columns: (ROWS, COLUMNS), float32."""
    depth = tl.arange(0, DEPTH)
    left_at = left + rows.to(tl.int64)[:, None] * width + depth[None, :]
    right_at = right + columns.to(tl.int64)[None, :] * width + depth[:, None]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, width, DEPTH):
        if EVEN:
            a = tl.load(left_at, mask=live_rows[:, None], other=0.0)
            b = tl.load(right_at, mask=live_columns[None, :], other=0.0)
        else:
            inside = depth < width - start
            a = tl.load(left_at, mask=live_rows[:, None] & inside[None, :], other=0.0)
            b = tl.load(right_at, mask=live_columns[None, :] & inside[:, None], other=0.0)
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION)
        left_at += DEPTH
        right_at += DEPTH
    return total


@triton.jit
def _without_equal_ids(
    s, query_ids, key_ids, rows, columns, live_rows, live_columns, QUERY_IDS: tl.constexpr, KEY_IDS: tl.constexpr
):  # fmt: skip
    """Put -inf where the pairs' id sets meet, the id -1 meeting all; pair of ids by pair of ids, so that no mask is held."""
    for a in tl.static_range(QUERY_IDS):  # type: ignore[attr-defined]
        left = tl.load(query_ids + rows.to(tl.int64) * QUERY_IDS + a, mask=live_rows, other=0)[:, None]
        for c in tl.static_range(KEY_IDS):  # type: ignore[attr-defined]
            right = tl.load(key_ids + columns.to(tl.int64) * KEY_IDS + c, mask=live_columns, other=0)[None, :]
            s = tl.where((left == right) | (left == -1) | (right == -1), NOTHING, s)
    return s


@triton.jit
def tile_kernel(
    query, key, scale, flag,
    query_ids, key_ids, ceiling, guide_query, guide_key, guide_ceiling,
    row_shift, row_factor, column_shift, column_factor,
    out, row_top, row_sum, column_top, column_sum,
    first_row, row_count, key_count, own, width, guide_width,
    STORE: tl.constexpr, ROW_SUMS: tl.constexpr, COLUMNS_TOO: tl.constexpr, FLAGGED: tl.constexpr,
    OWN: tl.constexpr, QUERY_IDS: tl.constexpr, KEY_IDS: tl.constexpr, CEILING: tl.constexpr, GUIDE: tl.constexpr,
    EVEN: tl.constexpr, GUIDE_EVEN: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GUIDE_DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Make one tile of rows ``first_row … first_row + row_count`` against all keys; ``b`` below is all queries.

    Args:
        query: (b, width); key: (n, width); scale: 0-d float32.
        flag: 0-d int32; where FLAGGED, nothing is done unless it is set.
        query_ids: (b, QUERY_IDS) int64; key_ids: (n, KEY_IDS) int64; ceiling: (b,) logits.
        guide_query: (b, guide_width); guide_key: (n, guide_width); guide_ceiling: (b,).
        row_shift: (b,), finite, subtracted in base 2; row_factor: (b,), of the gradient.
        column_shift: (n,); column_factor: (n,); +inf shifts a column out of the gradient.
        out: (row_count, n), what is stored.
        row_top: (column tiles, row_count), the largest z of a row in a tile; row_sum: the same shape.
        column_top: (row tiles, n); column_sum: the same shape, relative to ``column_top``.
        STORE: "nothing", "exponentials" 2^(z - row_shift), "gradient"
            ``row_factor·2^(z - row_shift) + column_factor·2^(z - column_shift)``, or "logits" (-inf where there is no candidate).
        ROW_SUMS: write ``row_top``, and ``row_sum`` relative to ``row_shift`` for exponentials, else to ``row_top``.
        COLUMNS_TOO: reduce columns as well, or include them in the gradient.
    """
    if FLAGGED:  # noqa: SIM102 - a compile-time switch before a value of the device
        if tl.load(flag) == 0:
            return
    # Programs that run at the same time share rows and columns in the cache.
    program = tl.program_id(0)
    row_tiles = tl.cdiv(row_count, ROWS)
    column_tiles = tl.cdiv(key_count, COLUMNS)
    in_group = GROUP * column_tiles
    first_tile = (program // in_group) * GROUP
    height = min(row_tiles - first_tile, GROUP)
    row_tile = first_tile + (program % in_group) % height
    column_tile = (program % in_group) // height

    local = row_tile * ROWS + tl.arange(0, ROWS)
    rows = first_row + local
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    live_rows = local < row_count
    live_columns = columns < key_count
    s = tl.load(scale) * _product(query, key, rows, columns, live_rows, live_columns, width,
                                  EVEN, PRECISION, WIDEN, ROWS, COLUMNS, DEPTH)  # fmt: skip
    if CEILING:
        limit = tl.load(ceiling + rows, mask=live_rows, other=0.0)
        s = tl.where(s > limit[:, None], NOTHING, s)
    if GUIDE:
        limit = tl.load(guide_ceiling + rows, mask=live_rows, other=0.0)
        guided = _product(guide_query, guide_key, rows, columns, live_rows, live_columns, guide_width,
                          GUIDE_EVEN, "ieee", False, ROWS, COLUMNS, GUIDE_DEPTH)  # fmt: skip
        s = tl.where(guided > limit[:, None], NOTHING, s)
    if QUERY_IDS > 0:
        s = _without_equal_ids(s, query_ids, key_ids, rows, columns, live_rows, live_columns, QUERY_IDS, KEY_IDS)
    if OWN:
        s = tl.where(columns[None, :] == own + rows[:, None], NOTHING, s)
    inside = live_rows[:, None] & live_columns[None, :]
    s = tl.where(inside, s, NOTHING)
    z = s * LOG2E

    cell = local.to(tl.int64)[:, None] * key_count + columns[None, :]
    if STORE == "logits":
        tl.store(out + cell, s, mask=inside)
    if STORE == "gradient":
        shift = tl.load(row_shift + rows, mask=live_rows, other=0.0)
        g = tl.load(row_factor + rows, mask=live_rows, other=0.0)[:, None] * tl.exp2(z - shift[:, None])
        if COLUMNS_TOO:
            shift = tl.load(column_shift + columns, mask=live_columns, other=0.0)
            g += tl.load(column_factor + columns, mask=live_columns, other=0.0)[None, :] * tl.exp2(z - shift[None, :])
        tl.store(out + cell, g.to(out.dtype.element_ty), mask=inside)
    if ROW_SUMS:
        top = tl.max(z, 1)
        partial = column_tile.to(tl.int64) * row_count + local
        tl.store(row_top + partial, top, mask=live_rows)
        if STORE == "exponentials":
            shift = tl.load(row_shift + rows, mask=live_rows, other=0.0)
        else:
            shift = tl.where(top == NOTHING, 0.0, top)
        e = tl.exp2(z - shift[:, None])
        tl.store(row_sum + partial, tl.sum(e, 1), mask=live_rows)
        if STORE == "exponentials":
            tl.store(out + cell, e.to(out.dtype.element_ty), mask=inside)
        if COLUMNS_TOO:
            top = tl.max(z, 0)
            partial = row_tile.to(tl.int64) * key_count + columns
            tl.store(column_top + partial, top, mask=live_columns)
            shift = tl.where(top == NOTHING, 0.0, top)
            tl.store(column_sum + partial, tl.sum(tl.exp2(z - shift[None, :]), 0), mask=live_columns)


@triton.jit
def mix_kernel(
    kept, flag, kept_shift, row_shift, row_factor, column_shift, column_factor, row_count, key_count, first_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Turn stored exponentials ``2^(z - kept_shift)`` into the gradient of rows and columns, in place; not where flag is set."""
    if tl.load(flag) != 0:
        return
    local = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live_rows = local < row_count
    live_columns = columns < key_count
    rows = first_row + local
    inside = live_rows[:, None] & live_columns[None, :]
    cell = kept + local.to(tl.int64)[:, None] * key_count + columns[None, :]
    base = tl.load(kept_shift + rows, mask=live_rows, other=NOTHING)
    of_row = tl.load(row_factor + rows, mask=live_rows, other=0.0)
    of_row = of_row * tl.exp2(base - tl.load(row_shift + rows, mask=live_rows, other=0.0))
    of_column = tl.load(column_factor + columns, mask=live_columns, other=0.0)
    shift = tl.load(column_shift + columns, mask=live_columns, other=0.0)
    e = tl.load(cell, mask=inside, other=0.0).to(tl.float32)
    g = e * (of_row[:, None] + of_column[None, :] * tl.exp2(base[:, None] - shift[None, :]))
    tl.store(cell, g.to(kept.dtype.element_ty), mask=inside)
