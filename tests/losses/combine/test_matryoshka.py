"""Prefixes of embeddings: the sum over lengths."""

import pytest
import torch
from contract import contract

from inbatch.errors import UsageError
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.views import Views


def test_adds_the_objective_over_prefixes():
    z = Views(torch.randn(6, 8), torch.randn(6, 8), (torch.randn(6, 8),))
    output = Matryoshka(InfoNCE(0.1), [2, 8], [0.5, 1.0])(z, None, None)
    losses = [InfoNCE(0.1)(z.map(lambda v: v[:, :d]), None, None).loss for d in (2, 8)]  # noqa: B023
    assert torch.allclose(output.loss, 0.5 * losses[0] + losses[1])
    assert torch.allclose(output.logs["2/loss"], losses[0])


@pytest.mark.parametrize(("dims", "weights"), [([], None), ([4, 4], None), ([0], None), ([2, 4], [1.0])])
def test_lengths_and_weights_that_do_not_fit_are_refused(dims, weights):
    with pytest.raises(UsageError, match="different, positive dims and as many weights"):
        Matryoshka(InfoNCE(), dims, weights)


def test_a_projector_and_too_long_a_prefix_are_refused():
    for objective in (
        InfoNCE(projector=torch.nn.Linear(2, 2)),
        WeightedSum({"a": InfoNCE(projector=torch.nn.Linear(2, 2))}),
    ):
        with pytest.raises(UsageError, match="without a projector; got InfoNCE with one"):
            Matryoshka(objective, [2])
    with pytest.raises(
        UsageError, match="an objective of prefixes of the embedding.*; got MomentumQueue. Add it beside"
    ):
        Matryoshka(WeightedSum({"a": MomentumQueue(4)}), [2])
    with pytest.raises(UsageError, match="dims of at most 32, the embedding's size; got 64"):
        Matryoshka(InfoNCE(), [64]).attach(Encoder(TinyRandom()))


def test_what_the_objective_logs_comes_out_once_of_the_longest_prefix():
    z = Views(torch.randn(6, 8), torch.randn(6, 8))
    logs = Matryoshka(InfoNCE(0.1), [8, 2, 4])(z, None, None).logs
    alone = InfoNCE(0.1)(z, None, None).logs
    assert set(logs) == {"8/loss", "2/loss", "4/loss", *alone}
    assert {tag: float(logs[tag]) for tag in alone} == pytest.approx({tag: float(alone[tag]) for tag in alone})


def test_a_learnt_temperature_is_logged_through_any_nesting():
    z = Views(torch.randn(6, 8), torch.randn(6, 8))
    inner = {"contrast": InfoNCE(0.1, learn_temperature=True), "hinge": EnergyHinge()}
    logs = Matryoshka(WeightedSum(inner), [4, 8])(z, None, None).logs
    assert {"4/loss", "8/loss", "contrast/loss", "contrast/temperature", "hinge/active"} <= set(logs)
    outer = WeightedSum({"nested": Matryoshka(WeightedSum(inner), [4, 8]), "plain": InfoNCE()})(z, None, None).logs
    assert float(outer["nested/contrast/temperature"]) == pytest.approx(0.1)
    assert {"nested/8/loss", "nested/loss", "plain/temperature"} <= set(outer)
    twice = WeightedSum({"a": WeightedSum({"b": InfoNCE(0.2)})})(z, None, None).logs
    assert twice["a/b/temperature"] == pytest.approx(0.2)


TestContract = contract(
    lambda: Matryoshka(InfoNCE(0.1), [2, 6]),
    settings={"objective": {"class_path": "InfoNCE"}, "dims": [2, 32]},
)
