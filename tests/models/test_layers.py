"""The layers of a network are found in every family, and whether they are computed twice."""

import pytest

from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.layers import checkpoint_layers, checkpoints, layers_of


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2", "opt"])
def test_layers_are_found_and_checkpointed(kind):
    network = TinyRandom(kind, num_layers=3).network
    assert len(layers_of(network)) == 3
    assert not checkpoints(network)
    checkpoint_layers(network)
    assert checkpoints(network)
