"""Positions: where they begin, and what padding has."""

import pytest
import torch

from inbatch.models.backbones.positions import first_position, positions
from inbatch.models.backbones.pretrained import TinyRandom


@pytest.mark.parametrize(("kind", "first"), [("bert", 0), ("roberta", 2), ("llama", 0)])
def test_they_begin_where_the_network_begins(kind, first):
    assert first_position(TinyRandom(kind).network) == first


def test_they_count_from_the_texts_first_token():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert positions(mask, 2).tolist() == [[2, 2, 2, 3, 4], [2, 3, 4, 4, 4], [2, 3, 4, 5, 6]]
