"""The operator: exact InfoNCE against any number of candidates, without a (b, n) matrix; and its three companions.

Definition, with ``s_ij = scale·⟨q_i, k_j⟩`` and the candidates of row i being all keys that no rule takes out:
``log_sum_i = log Σ_j e^{s_ij}``, ``neg_i = log(e^{log_sum_i} + Σ_e e^{extra_ie})``, ``loss_i = softplus(neg_i − positive_i)``.
The positive is never in ``neg``, so that losses of 1e-12 and their gradients keep their digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inbatch.kernels import checking, chunked, reference
from inbatch.kernels.candidates import Rules

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
            None is 256 MiB for the chunked backend. Copies of half-precision inputs in float32 count, 4·(b + n)·d bytes; their
            gradients are accumulated in float32.
        backend: "auto", "chunked" or "reference" (dense, for truth and tests).

    Returns:
        A 0-d tensor, or (b,) for "none"; float32, or float64 for float64 inputs. Differentiable once, for query, key, scale,
        positive and extra. A row without negatives has loss 0 and gradient 0.

    Raises:
        ValueError: for arguments that do not fit together; the message names the one that mends it.

    Note:
        6·b·n·d operations for mean and sum, symmetric 8 (6 if all logits fit into the workspace), "none" 8, no_grad 2.
        Rows are this rank's only; `gather` gives the keys of all ranks and ``own``.

    Source: van den Oord et al. 2018, arXiv 1807.03748, eq. 4.
    """
    checking.pairing(query, key, scale, own, query_ids, key_ids, ceiling, guide)
    checking.loss_arguments(query, own, positive, extra, symmetric, weight, reduction)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = torch.as_tensor(scale, dtype=wide, device=query.device)
    positive, extra, weight = (None if t is None else t.to(wide) for t in (positive, extra, weight))
    weight = None if weight is None else weight.detach()
    if _choose(backend) == "reference":
        # Autocast would round the float32 matrix.
        with torch.autocast(query.device.type, enabled=False):
            losses = reference.info_nce(query.to(wide), key.to(wide), scale, own, query_ids, key_ids, positive, extra, ceiling,
                                        guide, symmetric)  # fmt: skip
        return _reduce(losses, weight, reduction)
    rules = Rules.of(own, query_ids, key_ids, ceiling, guide)
    differentiable = any(t is not None and t.requires_grad for t in (query, key, scale, positive, extra))
    if reduction != "none" and torch.is_grad_enabled() and differentiable:
        return _Reduced.apply(query, key, scale, positive, extra, weight, rules, symmetric, reduction, workspace_bytes)  # type: ignore[return-value]
    if positive is None:
        assert own is not None
        positive = pair_logits(query, key[own : own + len(query)], scale)
    row, column = _LogSums.apply(query, key, scale, rules, symmetric, workspace_bytes)  # type: ignore[misc]
    return _reduce(_losses(row, column, positive, extra), weight, reduction)


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
    """
    checking.pairing(query, key, scale, own, query_ids, key_ids, ceiling, guide)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    scale = torch.as_tensor(scale, dtype=wide, device=query.device)
    if _choose(backend) == "reference":
        with torch.autocast(query.device.type, enabled=False):
            logits = scale * (query.to(wide) @ key.to(wide).T)
            keep = reference.candidates(logits.detach(), own, query_ids, key_ids, ceiling, guide)
            return reference.log_sum_exp(logits.masked_fill(~keep, -torch.inf))
    rules = Rules.of(own, query_ids, key_ids, ceiling, guide)
    return _LogSums.apply(query, key, scale, rules, False, workspace_bytes)[0]  # type: ignore[index]


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
    """
    checking.pairing(query, key, 1.0, own, query_ids, key_ids, ceiling, guide)
    if count < 1:
        raise ValueError(f"expected count >= 1; got {count}")
    rules = Rules.of(own, query_ids, key_ids, ceiling, guide)
    if _choose(backend) == "chunked":
        return chunked.hardest(chunked.Problem.of(query, key, 1.0, rules, workspace_bytes), count)
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


def chosen_backend(device: torch.device | str) -> tuple[str, str]:
    """Say which backend "auto" takes on a device, and why, for the first screen of a run."""
    return (
        "chunked",
        f"plain torch in blocks, {chunked.DEFAULT_WORKSPACE >> 20} MiB workspace, on {torch.device(device).type}",
    )


def _choose(backend: str) -> str:
    if backend not in ("auto", "chunked", "reference"):
        raise ValueError(f'expected backend "auto", "chunked" or "reference"; got {backend!r}')
    return "chunked" if backend == "auto" else backend


def _losses(row: Tensor, column: Tensor | None, positive: Tensor, extra: Tensor | None) -> Tensor:
    losses = reference.row_loss(row, positive, extra)
    return losses if column is None else (losses + reference.row_loss(column, positive, None)) / 2


def _reduce(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    weighted = losses if weight is None else losses * weight
    if reduction == "none":
        return weighted
    # A batch without rows has loss 0, not NaN.
    return weighted.sum() / max(1, len(losses)) if reduction == "mean" else weighted.sum()


class _LogSums(torch.autograd.Function):
    """Log sums of rows and, if asked, of the columns of the rows' own keys; the backward pass computes the logits again."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, scale: Tensor, rules: Rules, columns: bool, workspace: int | None
    ) -> tuple[Tensor, Tensor | None]:
        problem = chunked.Problem.of(query, key, scale, rules, workspace)
        row, column = chunked.log_sums(problem, own_columns=columns)
        ctx.save_for_backward(query, key, scale, row, column)
        ctx.rules, ctx.workspace = rules, workspace
        return row, column

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_row: Tensor, d_column: Tensor | None) -> tuple[Tensor | None, ...]:
        query, key, scale, row, column = ctx.saved_tensors
        problem = chunked.Problem.of(query, key, scale, ctx.rules, ctx.workspace)
        need_q, need_k, need_scale = ctx.needs_input_grad[:3]
        pair = None if column is None else (column, d_column)
        dq, dk = chunked.gradients(problem, (row, d_row), pair, need_q or need_scale, need_k)
        d_scale = (dq * problem.query).sum() / problem.scale if need_scale and dq is not None else None
        return _cast(dq if need_q else None, query), _cast(dk, key), d_scale, None, None, None


class _Reduced(torch.autograd.Function):
    """Mean or sum of the losses; the forward pass makes the gradients, the backward pass multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, scale: Tensor, positive: Tensor | None, extra: Tensor | None,
        weight: Tensor | None, rules: Rules, symmetric: bool, reduction: str, workspace: int | None,
    ) -> Tensor:  # fmt: skip
        need_q, need_k, need_scale, need_positive, need_extra = ctx.needs_input_grad[:5]
        problem = chunked.Problem.of(query, key, scale, rules, workspace)
        q, b = problem.query, len(query)
        given = positive is not None
        own_keys = None if given or rules.own is None else problem.key[rules.own : rules.own + b]
        if positive is None:
            assert own_keys is not None
            positive = pair_logits(q, own_keys, problem.scale)
        factor = torch.ones_like(positive) if weight is None else weight
        factor = factor / max(1, b) if reduction == "mean" else factor
        d_positive = torch.zeros_like(positive)
        d_extra = None if extra is None else torch.zeros_like(extra)
        loss = positive.new_zeros(())

        def slope(rows: slice, row: Tensor, column: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            """Differentiate the vector part of some rows, add their losses, return the derivatives of the log sums."""
            leaves = {
                "row": row,
                "column": column,
                "positive": positive[rows],
                "extra": None if extra is None else extra[rows],
            }
            leaves = {name: t.detach().requires_grad_() for name, t in leaves.items() if t is not None}
            with torch.enable_grad():
                losses = (
                    _losses(leaves["row"], leaves.get("column"), leaves["positive"], leaves.get("extra")) * factor[rows]
                )
                found = dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values()))))
            loss.add_(losses.detach().sum())
            d_positive[rows] = found["positive"]
            if d_extra is not None:
                d_extra[rows] = found["extra"]
            return found["row"], found.get("column")

        make_q, make_k = need_q or need_scale, need_k
        if symmetric:
            row, column = chunked.log_sums(problem, own_columns=True, keep=make_q or make_k)
            assert column is not None
            d_row, d_column = slope(slice(0, b), row, column)
            assert d_column is not None
            dq, dk = chunked.gradients(problem, (row, d_row), (column, d_column), make_q, make_k)
        else:
            _, dq, dk = chunked.fused(problem, lambda rows, row: slope(rows, row)[0], make_q, make_k)
        if own_keys is not None and rules.own is not None:
            pull = (d_positive * problem.scale)[:, None]
            if dq is not None:
                dq.addcmul_(pull, own_keys)
            if dk is not None:
                dk[rules.own : rules.own + b].addcmul_(pull, q)
        d_scale = (dq * q).sum() / problem.scale if need_scale and dq is not None else None
        ctx.save_for_backward(
            _cast(dq if need_q else None, query), _cast(dk, key), d_scale,
            d_positive if given and need_positive else None, d_extra if need_extra else None,
        )  # fmt: skip
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        made = (None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors)
        return *made, None, None, None, None, None


def _cast(grad: Tensor | None, like: Tensor) -> Tensor | None:
    return None if grad is None else grad.to(like.dtype)
