"""How much of each source an epoch holds, and which rows: pure functions of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inbatch.errors import UsageError


def quotas(sizes: Sequence[int], weights: Sequence[float], temperature: float = 1.0) -> list[int]:
    """Divide an epoch among sources: source i gets a share ``p_i ∝ weight_i · size_i^(1/temperature)``.

    An epoch has as many rows as all sources together. With temperature 1 and equal weights each source gives every row once.

    Args:
        sizes: rows of each source.
        weights: factor of each, > 0.
        temperature: 1 mixes by size, larger values more evenly; > 0.

    Returns:
        Rows a source an epoch; their sum is the sum of the sizes.

    Raises:
        UsageError: if a number is not positive, or a source would get no row.

    Example:
        >>> quotas([900, 100], [1, 1]), quotas([900, 100], [1, 1], temperature=2)  # of square roots, 30 and 10
        ([900, 100], [750, 250])
    """
    if not all(0 < weight < np.inf for weight in weights) or not 0 < temperature < np.inf:
        raise UsageError(
            f"expected positive weights and temperature; got weights {list(weights)} and temperature {temperature}. "
            "Set the weight of each source, or data.temperature."
        )
    total = sum(sizes)
    # The largest is taken out before the exponential, so that a small temperature does not overflow.
    logs = np.log(np.asarray(weights, dtype=np.float64)) + np.log(np.asarray(sizes, dtype=np.float64)) / temperature
    shares = np.exp(logs - logs.max())
    exact = total * shares / shares.sum()
    rows = np.floor(exact + 1e-9).astype(np.int64)
    # Largest remainders first; a stable sort, so that ties go to the earlier source.
    for i in np.argsort(rows - exact, kind="stable")[: total - rows.sum()]:
        rows[i] += 1
    if rows.min() == 0:
        raise UsageError(
            f"source {int(rows.argmin())} would give none of an epoch's {total} rows: its share is {exact[rows.argmin()]:.2g} rows. "
            "Set a larger weight for it, a larger data.temperature, or leave it out."
        )
    return rows.tolist()


def epoch_rows(size: int, quota: int, seed: int, source: int, epoch: int) -> np.ndarray:
    """Return which rows of one source an epoch holds, in random order.

    The source is an endless sequence of permutations, of which each epoch takes the next ``quota`` rows: no row comes again before
    all others have come.

    Returns:
        (quota,) int64, in [0, size).

    Example:
        >>> epochs = [epoch_rows(6, 3, seed=0, source=0, epoch=epoch).tolist() for epoch in (0, 1)]
        >>> sorted(epochs[0] + epochs[1])  # two epochs of three of the six rows: each once
        [0, 1, 2, 3, 4, 5]
    """
    first, last = epoch * quota, (epoch + 1) * quota
    rounds = range(first // size, -(-last // size))
    stream = np.concatenate([np.random.default_rng([seed, source, number]).permutation(size) for number in rounds])
    start = first - rounds[0] * size
    return stream[start : start + quota]
