"""The truth that the blocks are held to: the sum over a dense matrix, differentiable by autograd any number of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from inbatch.kernels.infonce.reference import candidates


def sum_over_pairs(
    query: Tensor, key: Tensor, fn: Callable[..., Tensor], *, own: int | None = 0, query_ids: Tensor | None = None,
    key_ids: Tensor | None = None, weight: Tensor | None = None, rows: Sequence[Tensor] = (),
    columns: Sequence[Tensor] = (), parameters: Sequence[Tensor] = (),
) -> Tensor:  # fmt: skip
    """Sum ``fn`` over all pairs that no rule takes out; arguments are those of `chunked.sum_over_pairs`, not checked here.

    Memory is (b, n) and more.

    Example:
        >>> import torch
        >>> query, key = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
        >>> sum_over_pairs(query, key, lambda s: s)  # 1·4 + 2·3: own pairs are no candidates
        tensor(10.)
        >>> sum_over_pairs(query, key, lambda s: s, own=None)
        tensor(21.)
    """
    dots = query @ key.T
    keep = candidates(dots.detach(), own, query_ids, key_ids, None, None)
    values = fn(dots.masked_fill(~keep, 0.0), *(x[:, None] for x in rows), *(x[None] for x in columns), *parameters)
    factor = keep.to(values.dtype) if weight is None else keep * weight.detach()[:, None]
    return (values * factor).sum()
