"""Arithmetic in which two models are compared: what differs is then what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Leave autocast and reduced float32 products aside, so that a difference shows the weights and not the arithmetic.

    Example:
        >>> with exact_arithmetic(torch.device("cpu")):
        ...     torch.get_float32_matmul_precision()
        'highest'
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
