"""A sum over all pairs of rows and keys in blocks of both, with the gradient of each block made by autograd inside of it.

A block's derivative needs nothing of other blocks, as there is no normaliser: any block of rows and keys does, one pass over them is
enough, and 6·b·n·d operations give value and gradients. What is left for the backward pass is the upstream factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inbatch.kernels.infonce import checking
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.products import product
from inbatch.kernels.pairwise.graph import foreign_leaf

# A block of this many rows and keys stays in a processor's cache; on a GPU a block is as large as the workspace allows.
CACHED_BLOCK, LARGEST_BLOCK = (512, 1024), (16384, 16384)
DEFAULT_WORKSPACE, DEFAULT_GPU_WORKSPACE = 256 << 20, 1 << 30
# Matrices of a block's size that live at once: dot products, allowed pairs, values, their derivative, and what fn and autograd hold.
MATRICES = 12
# Vectors of the embedding's width a row and a key of a block: operands in float32, and products before they are added.
VECTORS = 4


def sum_over_pairs(
    query: Tensor, key: Tensor, fn: Callable[..., Tensor], *, own: int | None = 0, query_ids: Tensor | None = None,
    key_ids: Tensor | None = None, weight: Tensor | None = None, rows: Sequence[Tensor] = (),
    columns: Sequence[Tensor] = (), parameters: Sequence[Tensor] = (), workspace_bytes: int | None = None,
) -> Tensor:  # fmt: skip
    """Sum a function of the dot product over all pairs of a query and a key that no rule takes out.

    Equals ``(fn(query @ key.T) * candidates).sum()``; does not allocate the (b, n) matrix. For losses whose pairs are independent of each
    other (sigmoid, margin, regression of similarities); a softmax over candidates is `info_nce`.

    Own pairs are **not** in the sum: as in `info_nce`, row i's own key is never its candidate. A loss that treats own pairs otherwise
    adds its term for them, from `pair_logits`, as in the example; so no id rule can take a positive out.

    Args:
        query: (b, d), any float dtype, normalised or not.
        key: (n, d), same dtype; n may be 0.
        fn: ``fn(dots, *rows, *columns, *parameters)`` gives the values of a block of pairs, (c, m) as ``dots``, which are plain dot
            products in float32 (float64 for float64). The value of a pair may depend on its own dot product, row and key only.
            A pair that is out comes with dot product 0, and its value is multiplied by 0: fn and its derivative must be finite there.
        own: row i's own key is key ``own + i``; over ranks the position of this rank's first row, as `gather` returns it. None: no
            key is a row's own, and all pairs are candidates.
        query_ids: int64 (b,) or (b, k). A pair whose id sets meet is no candidate; the id -1 meets every id.
        key_ids: int64 (n,) or (n, m); both or neither.
        weight: (b,) constant factor of each row's values.
        rows: vectors (b,) of any dtype (margins, labels); fn gets those of the block's rows as (c, 1).
        columns: vectors (n,); fn gets those of the block's keys as (1, m).
        parameters: tensors of any shape that fn reads, such as a learnt scale and bias. Floats come in the dtype of the dot products.
        workspace_bytes: bound of the memory beyond inputs, gradients and (b + n) vectors; None is 256 MiB, or 1 GiB on a GPU. It holds
            twelve matrices of a block's size; a fn that keeps more than about six takes more in that proportion. It changes results
            by rounding only.

    Returns:
        A 0-d tensor, float32, or float64 for float64 inputs. Differentiable once, for query, key, and the float tensors of rows,
        columns and parameters. 0 where no pair is a candidate.

    Raises:
        ValueError: for arguments that do not fit together; if fn returns another shape than it got; if fn reads a tensor with
            gradient that was not handed over, whose gradient would be lost.

    Note:
        Rows are this rank's only: with keys of all ranks, and the sum divided by this rank's rows, the ranks' average is the loss of
        the whole batch. The same shapes, workspace and machine give the same bits if fn does.

    Source: the sigmoid loss is of Zhai et al. 2023, arXiv 2303.15343, algorithm 1, whose chunked form this generalises.

    Example:
        >>> import torch
        >>> from torch.nn.functional import logsigmoid, softplus
        >>> from inbatch.kernels import pair_logits
        >>> q, k = torch.eye(3, 4), torch.eye(3, 4).roll(1, 1)
        >>> scale, bias = torch.tensor(2.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
        >>> others = sum_over_pairs(q, k, lambda s, scale, bias: softplus(scale * s + bias), parameters=(scale, bias))
        >>> loss = (others + softplus(-pair_logits(q, k, scale) - bias).sum()) / len(q)
        >>> label = 2 * torch.eye(3) - 1
        >>> dense = -logsigmoid(label * (scale * q @ k.T + bias)).sum() / len(q)
        >>> torch.allclose(loss, dense), torch.allclose(*(torch.autograd.grad(x, bias)[0] for x in (loss, dense)))
        (True, True)
    """
    checking.pairing(query, key, 1.0, own, query_ids, key_ids, None, None)
    checking.vector("weight", weight, len(query))
    for name, vectors, count in (("rows", rows, len(query)), ("columns", columns, len(key))):
        for vector in vectors:
            if vector.shape != (count,):
                raise ValueError(f"expected {name} as vectors ({count},); got {tuple(vector.shape)}")
    rules = Rules.of(own, query_ids, key_ids, None, None)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    given = query, key, *rows, *columns, *parameters
    differentiable = torch.is_grad_enabled()
    wanted = [differentiable and t.requires_grad for t in given]
    with torch.autocast(query.device.type, enabled=False), torch.no_grad():
        pairs = _Pairs(
            query.detach(), key.detach(), fn, rules, None if weight is None else weight.to(wide),
            [_read(x, wide) for x in rows], [_read(x, wide) for x in columns], [_read(x, wide) for x in parameters],
            wide, workspace_bytes, differentiable, wanted,
        )  # fmt: skip
        total, gradients = pairs.reduce()
    return _Scaled.apply(total, gradients, *given) if any(wanted) else total  # type: ignore[return-value]


def _read(x: Tensor, wide: torch.dtype) -> Tensor:
    return x.detach().to(wide if x.is_floating_point() else x.dtype)


@dataclass
class _Pairs:
    """One call: its inputs, detached, and its gradients as they add up, None where not wanted.

    Attributes:
        differentiable: whether gradients are enabled, so that one that fn would lose is noticed.
        wanted: of query, key, rows, columns and parameters, whether a gradient is made.
    """

    query: Tensor
    key: Tensor
    fn: Callable[..., Tensor]
    rules: Rules
    weight: Tensor | None
    rows: list[Tensor]
    columns: list[Tensor]
    parameters: list[Tensor]
    wide: torch.dtype
    workspace_bytes: int | None
    differentiable: bool
    wanted: list[bool]

    def __post_init__(self) -> None:
        self.dq = self.query.new_zeros(self.query.shape, dtype=self.wide) if self.wanted[0] else None
        # Transposed: the layout in which the product reads the block as it lies.
        self.transposed_dk = self.key.new_zeros(self.key.T.shape, dtype=self.wide) if self.wanted[1] else None
        read = [*self.rows, *self.columns, *self.parameters]
        self.of_read = [torch.zeros_like(x) if need else None for x, need in zip(read, self.wanted[2:])]

    def reduce(self) -> tuple[Tensor, list[Tensor | None]]:
        """Return the sum and the gradients of query, key, rows, columns and parameters."""
        total = self.query.new_zeros((), dtype=torch.float64)
        rules, current = self.rules, None
        for rows, columns in self.blocks():
            if columns != current:
                rules, current = self.rules.of_keys(columns), columns
            total += self.add(rows, columns, rules)
        dk = None if self.transposed_dk is None else self.transposed_dk.T
        return total.to(self.wide), [self.dq, dk, *self.of_read]

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Cut the matrix into blocks, rows within keys, so that the keys' ids are sorted once."""
        b, n = len(self.query), len(self.key)
        if not b or not n:
            return
        c, m = block_shape(b, n, self.query.shape[1], self.wide.itemsize, self.fixed_bytes(), self.workspace())
        for column in range(0, n, m):
            for row in range(0, b, c):
                yield slice(row, min(row + c, b)), slice(column, min(column + m, n))

    def workspace(self) -> tuple[int, tuple[int, int]]:
        """Bytes of the workspace, and the largest block that is worth while."""
        gpu = self.query.is_cuda
        default = DEFAULT_GPU_WORKSPACE if gpu else DEFAULT_WORKSPACE
        return default if self.workspace_bytes is None else self.workspace_bytes, LARGEST_BLOCK if gpu else CACHED_BLOCK

    def fixed_bytes(self) -> int:
        """Bytes of a call whatever the block's size."""
        return self.rules.fixed_bytes() + sum(x.nbytes for x in self.parameters)

    def add(self, rows: slice, columns: slice, rules: Rules) -> Tensor:
        """Add the gradients of one block and return its sum."""
        q, k = self.query[rows].to(self.wide), self.key[columns].to(self.wide)
        dots = product(q, k.T)
        factor = rules.exclude_(torch.ones_like(dots), rows.start, value=0.0)
        dots.mul_(factor)
        if self.weight is not None:
            factor.mul_(self.weight[rows, None])
        dots.requires_grad_(self.dq is not None or self.transposed_dk is not None)
        read = [
            *(x[rows, None].clone() for x in self.rows),
            *(x[None, columns].clone() for x in self.columns),
            *(x.detach() for x in self.parameters),
        ]
        for x, sums in zip(read, self.of_read):
            x.requires_grad_(sums is not None)
        leaves = [x for x in (dots, *read) if x.requires_grad]
        with torch.set_grad_enabled(self.differentiable):
            values = self.fn(dots, *read)
        self.check(values, dots, leaves)
        total = (values.detach() * factor).sum()
        if leaves and values.requires_grad:
            made = iter(torch.autograd.grad(values, leaves, factor.to(values.dtype), allow_unused=True))
            g = next(made) if dots.requires_grad else None
            if g is not None and self.dq is not None:
                self.dq[rows] += product(g, k)
            if g is not None and self.transposed_dk is not None:
                self.transposed_dk[:, columns] += product(q.T.contiguous(), g)
            parts = [rows] * len(self.rows) + [columns] * len(self.columns) + [None] * len(self.parameters)
            for sums, part in zip(self.of_read, parts):
                grad = None if sums is None else next(made)
                if sums is not None and grad is not None:
                    piece = sums if part is None else sums[part]
                    piece += grad.reshape(piece.shape)
        return total

    def check(self, values: Tensor, dots: Tensor, leaves: list[Tensor]) -> None:
        """Refuse what fn returned, if it is not of this block or depends on more than it was handed."""
        if values.shape != dots.shape or not values.is_floating_point():
            raise ValueError(
                f"expected fn to return float values of the shape of its dot products, {tuple(dots.shape)}; "
                f"got {values.dtype} {tuple(values.shape)}"
            )
        foreign = foreign_leaf(values, leaves)
        if foreign is not None:
            raise ValueError(
                f"expected fn to read only tensors that it is handed; it reads one of shape {tuple(foreign.shape)} whose gradient "
                "would be lost. Give it in parameters=, rows= or columns=, or detach it."
            )


def block_shape(
    b: int, n: int, width: int, element: int, fixed: int, workspace: tuple[int, tuple[int, int]]
) -> tuple[int, int]:
    """Choose how many rows and keys a block has: the largest that is worth while, its longer side halved until it fits.

    Args:
        b: rows; n: keys; width: of the embeddings.
        element: bytes of a number.
        fixed: bytes that a call takes whatever the block's size.
        workspace: bytes allowed, and the largest block that is worth while.

    Raises:
        ValueError: if not even one pair fits.

    Example:
        >>> block_shape(4096, 4096, 64, 4, 0, (1 << 20, (256, 1024)))
        (128, 128)
    """
    allowed, (c, m) = workspace
    c, m = min(b, c), min(n, m)
    while (missing := fixed + element * (MATRICES * c * m + VECTORS * width * (c + m)) - allowed) > 0:
        if c == m == 1:
            raise ValueError(
                f"expected a workspace that holds one pair of width {width}; it is {missing} bytes short. "
                f"Raise workspace_bytes by at least {missing}."
            )
        c, m = (-(-c // 2), m) if c > m else (c, -(-m // 2))
    return c, m


class _Scaled(torch.autograd.Function):
    """The sum, with gradients that were made along with it: the backward pass multiplies them by the upstream factor."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[Tensor | None], *given: Tensor) -> Tensor:
        ctx.dtypes = [x.dtype for x in given]
        # The factor of a gradient scaler must come before float16's rounding: that is what it is for.
        ctx.save_for_backward(
            *(g if g is None or t == torch.float16 else g.to(t) for g, t in zip(gradients, ctx.dtypes))
        )
        return total.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Gradients are enabled in a backward pass only under create_graph.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "sum_over_pairs is differentiable once; got create_graph=True. "
                "Use inbatch.kernels.pairwise.reference for second derivatives."
            )
        # Products in the wider of both dtypes: a factor rounded to bfloat16 would scale all gradients alike, by up to 0.4 %.
        wide = (g if g is None else g.to(torch.promote_types(g.dtype, upstream.dtype)) for g in ctx.saved_tensors)
        made = (None if g is None else (g * upstream).to(t) for g, t in zip(wide, ctx.dtypes))
        return None, None, *made
