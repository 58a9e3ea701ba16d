"""InfoNCE by loops over Python floats: independent of torch and of everything that the project computes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Truth:
    """Losses (b,), log sums (b,), and gradients of ``Σ factor·loss``; `unit` is the size of dL/ds before cancellation, per row."""

    losses: np.ndarray
    log_sums: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    d_scale: float
    d_positive: np.ndarray
    d_extra: np.ndarray | None
    unit: float


def is_candidate(i, j, s, own, query_ids, key_ids, ceiling, guide):
    if own is not None and j == own + i:
        return False
    if query_ids is not None:
        left, right = set(query_ids[i]), set(key_ids[j])
        if left & right or -1 in left or -1 in right:
            return False
    if ceiling is not None and s > ceiling[i]:
        return False
    return guide is None or not float(np.dot(guide[0][i], guide[1][j])) > guide[2][i]


def log_sum_exp(values):
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return -math.inf
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x))) if math.isfinite(x) else max(x, 0.0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def info_nce(
    q, k, scale, own=0, query_ids=None, key_ids=None, positive=None, extra=None, ceiling=None, guide=None, symmetric=False,
    factor=None,
):  # fmt: skip
    """Loop over rows, then over columns; ``factor`` (b,) is the derivative of the reduced loss by each row's loss."""
    b, n = len(q), len(k)
    factor = np.full(b, 1 / max(1, b)) if factor is None else factor
    s = [[scale * math.fsum(x * y for x, y in zip(q[i], k[j])) for j in range(n)] for i in range(b)]
    keep = [[is_candidate(i, j, s[i][j], own, query_ids, key_ids, ceiling, guide) for j in range(n)] for i in range(b)]
    given = positive is not None
    positive = list(positive) if given else [s[i][own + i] for i in range(b)]
    g = np.zeros((b, n))  # derivative by each logit
    d_positive, losses, log_sums = np.zeros(b), np.zeros(b), np.zeros(b)
    d_extra = None if extra is None else np.zeros((b, len(extra[0]) if b else 0))
    half = 0.5 if symmetric else 1.0
    for i in range(b):
        mine = [(j, s[i][j]) for j in range(n) if keep[i][j]]
        others = [] if extra is None else list(extra[i])
        log_sums[i] = log_sum_exp([v for _, v in mine])
        total = log_sum_exp([v for _, v in mine] + others)
        losses[i] += half * softplus(total - positive[i])
        pull = half * factor[i] * sigmoid(total - positive[i])
        d_positive[i] -= pull
        for j, v in mine:
            g[i, j] += pull * math.exp(v - total)
        for e, v in enumerate(others):
            if total > -math.inf:
                d_extra[i, e] += pull * math.exp(v - total)
    if symmetric:
        for i in range(b):
            mine = [(r, s[r][own + i]) for r in range(b) if keep[r][own + i]]
            total = log_sum_exp([v for _, v in mine])
            losses[i] += half * softplus(total - positive[i])
            pull = half * factor[i] * sigmoid(total - positive[i])
            d_positive[i] -= pull
            for r, v in mine:
                g[r, own + i] += pull * math.exp(v - total)
    unit = float(np.abs(g).max(initial=0.0)) + float(np.abs(d_positive).max(initial=0.0))
    if not given:
        for i in range(b):
            g[i, own + i] += d_positive[i]
    q, k = np.asarray(q, dtype=np.float64).reshape(b, -1), np.asarray(k, dtype=np.float64).reshape(n, -1)
    dq, dk = scale * g @ k, scale * g.T @ q
    return Truth(losses, log_sums, dq, dk, float((dq * q).sum() / scale), d_positive, d_extra, unit)
