"""Refuse arguments of the operator that do not fit together, in one sentence, before anything is computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pairing(
    query: Tensor, key: Tensor, scale: Tensor | float, own: int | None, query_ids: Tensor | None, key_ids: Tensor | None,
    ceiling: Tensor | None, guide: tuple[Tensor, Tensor, Tensor] | None,
) -> None:  # fmt: skip
    """Check what all functions over (query, key) share.

    Raises:
        ValueError: naming the argument, what was expected and what came.
    """
    if query.dim() != 2 or key.dim() != 2 or query.shape[1] != key.shape[1]:
        raise ValueError(f"expected query (b, d) and key (n, d); got {tuple(query.shape)} and {tuple(key.shape)}")
    if query.dtype != key.dtype or not query.is_floating_point():
        raise ValueError(
            f"expected query and key of one float dtype; got {query.dtype} and {key.dtype}. Cast one of them."
        )
    if query.device != key.device:
        raise ValueError(f"expected query and key on one device; got {query.device} and {key.device}")
    b, n = len(query), len(key)
    if isinstance(scale, Tensor) and scale.dim() != 0:
        raise ValueError(f"expected scale as a float or a 0-d tensor; got shape {tuple(scale.shape)}")
    # A compiled step has no values; the operation looks again when it runs.
    if not (isinstance(scale, Tensor) and torch.compiler.is_compiling()):
        scale_value(scale)
    if own is not None and not 0 <= own <= n - b:
        raise ValueError(
            f"expected own + b <= n, row i's own key being key own + i; got own={own}, b={b}, n={n}. "
            "Give own=None if no key is a row's own."
        )
    if (query_ids is None) != (key_ids is None):
        raise ValueError("expected query_ids and key_ids together or neither; got only one of them")
    for name, ids, rows in (("query_ids", query_ids, b), ("key_ids", key_ids, n)):
        if ids is None:
            continue
        if ids.dtype != torch.int64 or ids.dim() not in (1, 2) or len(ids) != rows:
            raise ValueError(
                f"expected {name} as int64 of {rows} rows, 1 or 2 dimensions; got {ids.dtype} {tuple(ids.shape)}"
            )
        if ids.device != query.device:
            raise ValueError(f"expected {name} on {query.device}; got {ids.device}")
    vector("ceiling", ceiling, b)
    if guide is not None:
        if len(guide) != 3:
            raise ValueError(f"expected guide as (guide_query, guide_key, guide_ceiling); got {len(guide)} tensors")
        left, right, limit = guide
        if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[1] or (len(left), len(right)) != (b, n):
            raise ValueError(
                f"expected guide embeddings ({b}, g) and ({n}, g); got {tuple(left.shape)} and {tuple(right.shape)}"
            )
        if left.dtype != right.dtype:
            raise ValueError(f"expected guide embeddings of one dtype; got {left.dtype} and {right.dtype}")
        vector("guide_ceiling", limit, b)


def scale_value(scale: Tensor | float) -> None:
    """Check the scale, unless it lies on an accelerator: reading it there would wait for the device at every step.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if isinstance(scale, Tensor) and scale.device.type != "cpu":
        return
    value = float(scale.detach()) if isinstance(scale, Tensor) else float(scale)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected a positive, finite scale (1/temperature); got {value}")


def scale_tensor(scale: Tensor | float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Put the scale on a device, 0-d; a number is written there, as a copy from the host would wait for the device."""
    if isinstance(scale, Tensor):
        return scale.to(device, dtype)
    return torch.full((), float(scale), dtype=dtype, device=device)


def loss_arguments(
    query: Tensor, own: int | None, positive: Tensor | None, extra: Tensor | None, symmetric: bool,
    weight: Tensor | None, reduction: str,
) -> None:  # fmt: skip
    """Check what only the loss takes.

    Raises:
        ValueError: naming the argument, what was expected and what came.
    """
    b = len(query)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'expected reduction "mean", "sum" or "none"; got {reduction!r}')
    if own is None and positive is None:
        raise ValueError("expected positive where own is None: no key is a row's own, so the positives must be given")
    if own is None and symmetric:
        raise ValueError("expected own where symmetric is asked: a column belongs to a row's own key")
    vector("positive", positive, b)
    vector("weight", weight, b)
    if extra is not None and (extra.dim() != 2 or len(extra) != b or not extra.is_floating_point()):
        raise ValueError(f"expected extra as float ({b}, e); got {extra.dtype} {tuple(extra.shape)}")


def vector(name: str, value: Tensor | None, rows: int) -> None:
    """Check a float vector of so many rows, if there is one.

    Raises:
        ValueError: naming the argument, what was expected and what came.
    """
    if value is not None and (value.shape != (rows,) or not value.is_floating_point()):
        raise ValueError(f"expected {name} as a float vector ({rows},); got {value.dtype} {tuple(value.shape)}")
