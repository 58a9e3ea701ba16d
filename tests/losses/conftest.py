"""What the tests of objectives share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from inbatch.views import TokenBatch


@pytest.fixture
def token_batch() -> Callable[[list[list[int]]], TokenBatch]:
    """Return a function that pads rows of ids with 0, on the right."""

    def make(rows: list[list[int]]) -> TokenBatch:
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return TokenBatch(ids, mask)

    return make
