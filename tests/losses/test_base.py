"""What objectives share: projection in one call, and refusals before the first step."""

import pytest
import torch
from ranks import on_ranks

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, Objective, check_all, describe, mean_over_ranks, parts, project
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import Decay, WeightedSum
from inbatch.losses.contrastive.dclr import DCLR
from inbatch.losses.contrastive.guided import Guided
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.models.heads.projectors import BatchNormProjector
from inbatch.views import Views


def test_all_views_are_projected_in_one_call():
    projector = BatchNormProjector(4)
    z = Views(*(torch.randn(5, 4) for _ in range(2)), (torch.randn(5, 4),))
    found = project(z, projector)
    together = projector(torch.cat(list(z)))
    assert torch.allclose(torch.cat(list(found)), together)
    assert project(z, None) is z


@pytest.mark.parametrize(
    "objective", [InfoNCE(), EnergyHinge(), Guided(torch.nn.Identity()), DCLR(torch.nn.Identity())], ids=describe
)
def test_objectives_of_positives_refuse_scored_pairs(objective):
    objective.check(BatchFacts(rows=4, negatives=1, scored=False))
    with pytest.raises(UsageError, match=rf"{type(objective).__name__} takes every pair as a positive one.*view: pair"):
        objective.check(BatchFacts(rows=4, negatives=1, scored=True))


def test_every_objective_inside_is_found():
    inner = {"a": InfoNCE(), "b": InfoNCE()}
    assert len(list(parts(WeightedSum(inner)))) == 3
    weights = {"b": -0.5, "c": Decay(0.1, 0.9, 10)}
    named = describe(WeightedSum({**inner, "c": Matryoshka(InfoNCE(), [2])}, weights))
    assert named == "WeightedSum of InfoNCE, -0.5 × InfoNCE, falling weight × Matryoshka of InfoNCE"
    assert describe(InfoNCE()) == "InfoNCE"


@pytest.mark.parametrize(
    "objective",
    [
        InfoNCE(projector=BatchNormProjector(4)),
        OwnNegatives(projector=BatchNormProjector(4)),
        WeightedSum({"a": InfoNCE()}, projector=BatchNormProjector(4)),
    ],
)
def test_a_batch_of_one_row_with_batch_norm_is_refused(objective):
    objective.check(BatchFacts(rows=2, negatives=1, scored=False))
    with pytest.raises(
        UsageError, match="at least 2 rows a rank for the projector's BatchNorm1d; got 1. Raise data.batch_size"
    ):
        objective.check(BatchFacts(rows=1, negatives=1, scored=False))


def test_nothing_counted_is_zero():
    assert mean_over_ranks(torch.tensor(0.0), torch.tensor(0)) == 0
    assert mean_over_ranks(torch.tensor(6.0), torch.tensor(4)) == 1.5


def test_hooks_are_there_on_every_objective():
    bare = Objective()
    assert (bare.projector, bare.queue_size, bare.moves_frozen, bare.inner()) == (None, 0, False, {})
    projector = torch.nn.Linear(4, 4)
    held = InfoNCE(projector=projector)
    assert held.projector is projector
    assert [name for name, _ in held.named_parameters()] == ["projector.weight", "projector.bias"]


def test_objectives_at_any_depth_are_checked():
    class Holding(Objective):
        def __init__(self):
            super().__init__()
            self.held = torch.nn.ModuleList([EnergyHinge()])

    with pytest.raises(UsageError, match="EnergyHinge expects a hard negative"):
        check_all(Holding(), BatchFacts(rows=4, negatives=0, scored=False))


def counted(rank):
    return mean_over_ranks(torch.tensor([6.0, 2.0][rank]), torch.tensor([3, 1][rank]))


def test_a_mean_over_all_ranks_counts_what_each_has():
    assert sum(on_ranks(2, counted)) / 2 == pytest.approx(8 / 4)
