"""What a card says of a run's negatives is true of its full batches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.losses.graded.cosent import CoSENT
from inbatch.run.finish import in_batch_negatives


@pytest.mark.parametrize(
    ("objective", "negatives", "said"),
    [
        (InfoNCE(), [0], 15),
        (InfoNCE(), [2], 47),
        (Matryoshka(InfoNCE(), [8]), [1, 1], 31),
        (WeightedSum({"a": CoSENT(), "b": InfoNCE()}), [0], 15),
        (WeightedSum({"a": CoSENT(), "b": InfoNCE()}, {"b": 0.0}), [0], None),
        (WeightedSum({"a": InfoNCE()}, views={"a": ["anchor", "positive"]}), [2], 15),
        (WeightedSum({"a": InfoNCE(), "b": EnergyHinge()}, views={"a": ["anchor", "positive"]}), [2], 47),
        (InfoNCE(), [0, 3, 1], "15 to 63, by source"),
        (CoSENT(), [0], None),
        (OwnNegatives(), [2], None),
    ],
)
def test_negatives_are_those_of_a_full_batch(objective, negatives, said):
    data = SimpleNamespace(batch_size=16, tables=[SimpleNamespace(negatives=n) for n in negatives])
    assert in_batch_negatives(objective, data) == said
