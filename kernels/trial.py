"""A trial of this processor's matrix products: what float32 reaches by MKL and by oneDNN, and what bfloat16 reaches.

Flags lie: a processor may take bfloat16 and multiply it a hundred times slower than float32, and MKL runs narrower code on processors
of other makers than its own. So all three are timed, at the sizes of an encoder's linear layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# A small encoder's wider layer: (rows, DEPTH) times (DEPTH, WIDTH).
DEPTH, WIDTH = 384, 1536
# Rows of the first product, which takes some 10 ms where bfloat16 runs at 1 GFLOP/s, and of the largest.
FEWEST, MOST = 8, 1024
SECONDS = 0.25
# One way to multiply is taken in place of another if it is faster by this factor.
CLEARLY = 1.25


@dataclass(frozen=True)
class Rates:
    """What products reach on one thread, in GFLOP/s.

    Attributes:
        matmul: float32 by ``torch.matmul``, which is MKL in torch's builds for x86.
        onednn: float32 by oneDNN; 0 where torch has no way to it.
        bfloat16: by ``torch.matmul``; 0 where that fails.

    Example:
        >>> found = Rates(matmul=100.0, onednn=0.0, bfloat16=50.0)
        >>> found.bfloat16 > CLEARLY * found.matmul  # whether bfloat16 is clearly the faster
        False
    """

    matmul: float
    onednn: float
    bfloat16: float


_rates: Rates | None = None


def rates() -> Rates | None:
    """Return what this process knows of its products; None if it was not told.

    Example:
        >>> before = rates()
        >>> tell(Rates(matmul=100.0, onednn=0.0, bfloat16=50.0))
        >>> rates().matmul
        100.0
        >>> tell(before)
    """
    return _rates


def tell(known: Rates | None) -> None:
    """Let the operators of this process go by rates that were measured; by None they go by the processor's flags.

    Example:
        >>> before = rates()
        >>> tell(None)
        >>> rates() is None
        True
        >>> tell(before)
    """
    global _rates
    _rates = known


def has_onednn() -> bool:
    """Say whether this torch multiplies float32 by oneDNN when told to.

    Example:
        >>> isinstance(has_onednn(), bool)
        True
    """
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def try_products(seconds: float = SECONDS) -> Rates:
    """Time the products one after the other on one thread, in about so many seconds together, whatever the processor.

    The thread's own time counts: on a machine that others use, threads wait for each other, and all products would look alike.

    Example:
        >>> try_products(seconds=0.03).matmul > 0
        True
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return _try_products(seconds / 3)
    finally:
        torch.set_num_threads(threads)


def _try_products(seconds: float) -> Rates:
    weight = torch.ones(WIDTH, DEPTH)
    narrow = weight.bfloat16()

    def onednn(x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    return Rates(
        matmul=_rate(lambda x: x @ weight.T, torch.float32, seconds),
        onednn=_rate_or_0(onednn, torch.float32, seconds) if has_onednn() else 0.0,
        bfloat16=_rate_or_0(lambda x: x @ narrow.T, torch.bfloat16, seconds),
    )


def _rate_or_0(product: Callable[[Tensor], Tensor], dtype: torch.dtype, seconds: float) -> float:
    try:
        return _rate(product, dtype, seconds)
    except RuntimeError:  # this build of torch, or the library for this processor, has no such product
        return 0.0


def _rate(product: Callable[[Tensor], Tensor], dtype: torch.dtype, seconds: float) -> float:
    """Return the best GFLOP/s of products of as many rows as the time is enough for, which those of fewer rows foretell."""
    end = time.thread_time() + seconds
    rows, best = FEWEST, 0.0
    x = torch.ones(rows, DEPTH, dtype=dtype)
    product(x)  # the first call of a size makes its code
    while True:
        start = time.thread_time()
        product(x)
        now = time.thread_time()
        took = max(now - start, 1e-9)
        best = max(best, 2e-9 * rows * DEPTH * WIDTH / took)
        larger = min(4 * rows, MOST)
        if larger > rows and now + 2 * took * larger / rows < end:
            rows, best = larger, 0.0
            x = torch.ones(rows, DEPTH, dtype=dtype)
            product(x)
        elif now + took > end:
            return best
