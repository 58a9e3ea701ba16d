"""The truth that every backend is held to: InfoNCE over a dense matrix, differentiable by autograd, meant to be read.

Memory is (b, n) and more. All arguments are those of `inbatch.kernels.infonce.operators`, validated there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def candidates(
    logits: Tensor, own: int | None, query_ids: Tensor | None, key_ids: Tensor | None,
    ceiling: Tensor | None, guide: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Say which pairs are candidates: (b, n) bool.

    Example:
        >>> import torch
        >>> candidates(torch.zeros(2, 3), 0, torch.tensor([5, 6]), torch.tensor([5, 6, 5]), None, None)
        tensor([[False,  True, False],
                [ True, False,  True]])
    """
    b, n = logits.shape
    keep = torch.ones(b, n, dtype=torch.bool, device=logits.device)
    if own is not None:
        keep &= torch.arange(n, device=logits.device) != own + torch.arange(b, device=logits.device)[:, None]
    if query_ids is not None and key_ids is not None:
        q, k = query_ids.reshape(b, 1, -1, 1), key_ids.reshape(1, n, 1, -1)
        keep &= ~((q == k) | (q == -1) | (k == -1)).any(-1).any(-1)
    if ceiling is not None:
        keep &= logits <= ceiling[:, None]
    if guide is not None:
        keep &= guide[0] @ guide[1].T <= guide[2][:, None]
    return keep


def info_nce(
    query: Tensor, key: Tensor, scale: Tensor, own: int | None, query_ids: Tensor | None, key_ids: Tensor | None,
    positive: Tensor | None, extra: Tensor | None, ceiling: Tensor | None, guide: tuple[Tensor, Tensor, Tensor] | None,
    symmetric: bool,
) -> Tensor:  # fmt: skip
    """Compute each row's loss, (b,).

    Example:
        >>> import torch
        >>> q, k = torch.eye(2), torch.eye(2)
        >>> info_nce(q, k, torch.tensor(3.0), 0, None, None, None, None, None, None, symmetric=False)
        tensor([0.0486, 0.0486])
    """
    logits = scale * (query @ key.T)
    keep = candidates(logits.detach(), own, query_ids, key_ids, ceiling, guide)
    masked = logits.masked_fill(~keep, -torch.inf)
    if positive is None:
        assert own is not None
        positive = logits.diagonal(own)
    rows = row_loss(log_sum_exp(masked), positive, extra)
    if not symmetric:
        return rows
    assert own is not None
    return (rows + row_loss(log_sum_exp(masked[:, own : own + len(query)].T), positive, None)) / 2


def log_sum_exp(logits: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension; -inf, with gradient 0, where a row is empty or all -inf.

    Example:
        >>> import torch
        >>> log_sum_exp(torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]]))
        tensor([0.6931,   -inf])
    """
    if logits.shape[-1] == 0:
        return logits.sum(-1) - torch.inf
    empty = logits.isneginf().all(-1, keepdim=True)
    total = logits.masked_fill(empty, 0.0).logsumexp(-1)
    return total.masked_fill(empty.squeeze(-1), -torch.inf)


def row_loss(log_sum: Tensor, positive: Tensor, extra: Tensor | None) -> Tensor:
    """Equal ``softplus(logaddexp(log_sum, logsumexp(extra)) - positive)``, (b,), 0 with gradient 0 where nothing competes.

    Example:
        >>> import torch
        >>> row_loss(torch.tensor([0.0, -torch.inf]), torch.tensor([30.0, 30.0]), None)
        tensor([9.3576e-14, 0.0000e+00])
    """
    competing = log_sum if extra is None else log_sum_exp(torch.cat([log_sum[:, None], extra], 1))
    difference = competing - positive
    # softplus as logaddexp: F.softplus returns x itself above 20, which is wrong in float64. A row without negatives is
    # replaced before the function, not after it, so that no 0 * inf arises in the gradient.
    absent = competing.isneginf()
    return torch.logaddexp(difference.masked_fill(absent, 0.0), torch.zeros_like(difference)).masked_fill(absent, 0.0)
