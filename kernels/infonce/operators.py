"""The operator: exact InfoNCE against any number of candidates, without a (b, n) matrix; and its three companions.

Definition, with ``s_ij = scale·⟨q_i, k_j⟩`` and the candidates of row i being all keys that no rule takes out:
``log_sum_i = log Σ_j e^{s_ij}``, ``neg_i = log(e^{log_sum_i} + Σ_e e^{extra_ie})``, ``loss_i = softplus(neg_i − positive_i)``.
The positive is never in ``neg``, so that losses of 1e-12 and their gradients keep their digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inbatch.kernels.infonce import autograd, checking, reference
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.inputs import spell
from inbatch.kernels.infonce.reduction import losses_of
from inbatch.kernels.infonce.selection import check_backend

Guide = tuple[Tensor, Tensor, Tensor]


def info_nce(
    query: Tensor, key: Tensor, *, scale: Tensor | float, own: int | None = 0,
    query_ids: Tensor | None = None, key_ids: Tensor | None = None, positive: Tensor | None = None,
    extra: Tensor | None = None, ceiling: Tensor | None = None, guide: Guide | None = None, symmetric: bool = False,
    weight: Tensor | None = None, reduction: str = "mean", workspace_bytes: int | None = None, backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Compute the InfoNCE loss of each query against all keys that are its candidates.

    Equals ``F.cross_entropy(scale * query @ key.T, own + torch.arange(b))`` where nothing but the defaults is given; does not
    allocate the (b, n) matrix, and keeps its digits where cross_entropy returns 0.

    Args:
        query: (b, d), any float dtype, normalised or not.
        key: (n, d), same dtype; n may be 0.
        scale: 1/temperature, > 0; a float or a 0-d tensor that may be learnt.
        own: row i's own key is key ``own + i``: never its candidate, and its logit is the positive unless one is given.
            None: no key is a row's own; ``positive`` is then required and ``symmetric`` refused.
        query_ids: int64 (b,) or (b, k). A pair whose id sets meet is no candidate; the id -1 meets every id.
        key_ids: int64 (n,) or (n, m); both or neither.
        positive: (b,) logits of the positives, touched by no rule.
        extra: (b, e) logits of further candidates of each row, touched by no rule; -inf is an absent one.
        ceiling: (b,) in logits; a pair strictly above its row's ceiling is no candidate. Compared detached.
        guide: ``(guide_query (b, g), guide_key (n, g), guide_ceiling (b,))``, the same on a guide's plain dot products.
        symmetric: ``loss_i = ½(row_i + column_i)``; column i scores key ``own + i`` against all queries over the same candidate
            pairs, with the same positive and without ``extra``.
        weight: (b,) constant factor of each row's loss; the mean is ``Σ w·loss / b``.
        reduction: "mean", "sum" or "none".
        workspace_bytes: bound of the memory beyond inputs, gradients and (b + n) vectors; changes results by rounding only.
            None is 256 MiB for the chunked backend, or copies and 64 MiB. Copies of half-precision inputs in float32 count, 4·(b + n)·d bytes; their
            gradients are accumulated in float32.
        backend: "auto" takes "triton" on a GPU (float32, bfloat16, float16; 4 GiB workspace) where it passes a trial against
            float64 at its first use, and "chunked", plain torch in blocks, elsewhere; "reference" is dense, for tests.

    Returns:
        A 0-d tensor, or (b,) for "none"; float32, or float64 for float64 inputs. Differentiable once, for query, key, scale,
        positive and extra. A row without negatives has loss 0 and gradient 0.

    Raises:
        ValueError: for arguments that do not fit together; the message names the one that mends it.

    Note:
        6·b·n·d operations for mean and sum, symmetric 8 (6 if all logits fit into the workspace), "none" 8, no_grad 2.
        Rows are this rank's only; `gather` gives the keys of all ranks and ``own``.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4.

    Example:
        >>> import torch
        >>> q, k = torch.eye(3), torch.eye(3).repeat(2, 1)  # with own=3 the first three keys are copies of the positives
        >>> loss = info_nce(q, k, scale=2.0, own=3)
        >>> torch.allclose(loss, torch.nn.functional.cross_entropy(2.0 * q @ k.T, torch.arange(3, 6)))
        True
        >>> ids = torch.tensor([7, 8, 9])  # a copy has the same id, which takes it out: log(1 + 4·e^-2)
        >>> round(info_nce(q, k, scale=2.0, own=3, query_ids=ids, key_ids=ids.repeat(2)).item(), 4)
        0.4327
    """
    check_backend(backend, query)
    checking.pairing(query, key, scale, own, query_ids, key_ids, ceiling, guide)
    checking.loss_arguments(query, own, positive, extra, symmetric, weight, reduction)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = checking.scale_tensor(scale, wide, query.device)
    positive, extra, weight = (None if t is None else t.to(wide) for t in (positive, extra, weight))
    weight = None if weight is None else weight.detach()
    if backend == "reference":
        # Autocast would round the float32 matrix.
        with torch.autocast(query.device.type, enabled=False):
            losses = reference.info_nce(query.to(wide), key.to(wide), scale, own, query_ids, key_ids, positive, extra, ceiling,
                                        guide, symmetric)  # fmt: skip
        return _reduce(losses, weight, reduction)
    rules = spell(Rules.of(own, query_ids, key_ids, ceiling, guide))
    wanted = [t is not None and t.requires_grad for t in (query, key, scale, positive, extra)]
    if reduction != "none" and torch.is_grad_enabled() and any(wanted):
        return autograd.reduced(
            query=query, key=key, scale=scale, **rules, positive=positive, extra=extra, weight=weight, symmetric=symmetric,
            reduction=reduction, wanted=wanted, workspace=workspace_bytes, backend=backend,
        )[0]  # fmt: skip
    if positive is None:
        assert own is not None
        positive = pair_logits(query, key[own : own + len(query)], scale)
    row, column = autograd.log_sums(
        query=query, key=key, scale=scale, **rules, columns=symmetric, workspace=workspace_bytes, backend=backend
    )
    return _reduce(losses_of(row, column if symmetric else None, positive, extra), weight, reduction)


def log_sum(
    query: Tensor, key: Tensor, *, scale: Tensor | float, own: int | None = 0, query_ids: Tensor | None = None,
    key_ids: Tensor | None = None, ceiling: Tensor | None = None, guide: Guide | None = None,
    workspace_bytes: int | None = None, backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Compute the log-sum-exp of each row's candidate logits, (b,), -inf where it has none.

    Equals ``(scale * query @ key.T).masked_fill(~candidates, -inf).logsumexp(1)``. Arguments are those of `info_nce`; gradients
    for query, key and scale, by computing the logits again (8·b·n·d in all).

    Raises:
        ValueError: for arguments that do not fit together.

    Example:
        >>> import torch
        >>> log_sum(torch.eye(2), torch.eye(2), scale=5.0)  # the other key alone, whose logit is 0
        tensor([0., 0.])
        >>> log_sum(torch.eye(2), torch.eye(2), scale=5.0, own=None).exp().log1p().sub(5).abs().max() < 0.02
        tensor(True)
    """
    check_backend(backend, query)
    checking.pairing(query, key, scale, own, query_ids, key_ids, ceiling, guide)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = checking.scale_tensor(scale, wide, query.device)
    if backend == "reference":
        with torch.autocast(query.device.type, enabled=False):
            logits = scale * (query.to(wide) @ key.to(wide).T)
            keep = reference.candidates(logits.detach(), own, query_ids, key_ids, ceiling, guide)
            return reference.log_sum_exp(logits.masked_fill(~keep, -torch.inf))
    rules = spell(Rules.of(own, query_ids, key_ids, ceiling, guide))
    return autograd.log_sums(
        query=query, key=key, scale=scale, **rules, columns=False, workspace=workspace_bytes, backend=backend
    )[0]


def hardest(
    query: Tensor, key: Tensor, count: int = 1, *, own: int | None = 0, query_ids: Tensor | None = None,
    key_ids: Tensor | None = None, ceiling: Tensor | None = None, guide: Guide | None = None,
    workspace_bytes: int | None = None, backend: str = "auto",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Find each row's candidates with the largest dot products; no gradient.

    Equals ``(query @ key.T).masked_fill(~candidates, -inf).topk(count)``. Arguments are those of `info_nce`; as there is no
    scale, ``ceiling`` is in dot products.

    Returns:
        Values (b, count), float32 or float64, and indices (b, count), int64, hardest first; -inf and -1 where a row has fewer
        candidates. An excluded pair is never returned.

    Raises:
        ValueError: for arguments that do not fit together, or a count below 1.

    Example:
        >>> import torch
        >>> query, key = torch.tensor([[1.0], [1.0]]), torch.tensor([[9.0], [2.0], [5.0]])
        >>> hardest(query, key)  # key 0 is row 0's own
        (tensor([[5.],
                [9.]]), tensor([[2],
                [0]]))
        >>> hardest(query, key, 3)[1]
        tensor([[ 2,  1, -1],
                [ 0,  2, -1]])
    """
    check_backend(backend, query)
    checking.pairing(query, key, 1.0, own, query_ids, key_ids, ceiling, guide)
    if count < 1:
        raise ValueError(f"expected count >= 1; got {count}")
    if backend != "reference":
        rules = spell(Rules.of(own, query_ids, key_ids, ceiling, guide))
        return autograd.hardest(
            query=query.detach(), key=key.detach(), **rules, count=count, workspace=workspace_bytes, backend=backend
        )
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        logits = query.to(wide) @ key.to(wide).T
        keep = reference.candidates(logits, own, query_ids, key_ids, ceiling, guide)
        absent = max(0, count - len(key))
        masked = torch.nn.functional.pad(logits.masked_fill(~keep, -torch.inf), (0, absent), value=-torch.inf)
        values, indices = masked.topk(count, dim=1)
        return values, indices.masked_fill(values.isneginf(), -1)


def pair_logits(query: Tensor, other: Tensor, scale: Tensor | float) -> Tensor:
    """Compute the logits of each row with its own others, in float32 (float64 for float64), differentiable.

    Equals ``scale * torch.einsum("bd,bed->be", query, other)``, but never in half precision, whatever autocast says: the
    positives that `info_nce` is given must come from the very tensors that it is given.

    Args:
        query: (b, d).
        other: (b, d) or (b, e, d).
        scale: 1/temperature.

    Returns:
        (b,) or (b, e).

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> import torch
        >>> pair_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), 10.0)
        tensor([110.])
        >>> pair_logits(torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]), 10.0)
        tensor([[110.,  20.]])
    """
    if (
        query.dim() != 2
        or other.dim() not in (2, 3)
        or other.shape[0] != len(query)
        or other.shape[-1] != query.shape[1]
    ):
        raise ValueError(
            f"expected query (b, d) and other (b, d) or (b, e, d); got {tuple(query.shape)} and {tuple(other.shape)}"
        )
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    left = query.to(wide) if other.dim() == 2 else query.to(wide)[:, None]
    return scale * (left * other.to(wide)).sum(-1)


def _reduce(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    weighted = losses if weight is None else losses * weight
    if reduction == "none":
        return weighted
    # A batch without rows has loss 0, not NaN.
    return weighted.sum() / max(1, len(losses)) if reduction == "mean" else weighted.sum()
