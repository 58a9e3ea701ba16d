from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, check_all
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.dcl import DCL
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.own_negatives import OwnNegatives
from inbatch.losses.contrastive.siglip import SigLIP
from inbatch.losses.graded.angle import Angle
from inbatch.losses.graded.cosent import CoSENT
from inbatch.views import Views


@pytest.mark.parametrize("objective", [CoSENT(), Angle(), InfoNCE(positive_score=0.5)])
def test_a_score_for_each_candidate_is_refused_where_a_row_has_one(objective):
    z = Views(torch.randn(3, 4), torch.randn(3, 4), (torch.randn(3, 4),), score=torch.rand(3, 2))
    with pytest.raises(UsageError, match=r"expects one score a row, .*; got 2\. Set columns\.score to one column"):
        objective(z, None, None)


@pytest.mark.parametrize("objective", [CoSENT(), Angle(), InfoNCE(positive_score=0.5)])
def test_a_score_for_each_candidate_is_refused_before_the_first_step(objective):
    facts = BatchFacts(rows=4, negatives=1, scored=True, most_scores=2)
    with pytest.raises(UsageError, match=r"expects one score a row, .*; got 2\. Set columns\.score to one column"):
        check_all(objective, facts)
    # A term that sees the positive alone gets its score alone.
    check_all(WeightedSum({"a": objective}, views={"a": ["anchor", "positive"]}), facts)
    check_all(WeightedSum({"a": objective}, views={"a": ["positive", "anchor", "negative_1"]}), facts)
    with pytest.raises(UsageError, match="got 2. Set"):
        check_all(WeightedSum({"a": objective}, views={"a": ["anchor", "positive", "negative_1"]}), facts)


@pytest.mark.parametrize("objective", [InfoNCE(), DCL(), SigLIP(), EnergyHinge(), OwnNegatives()])
def test_scores_of_one_source_of_several_are_refused_before_the_first_step(objective):
    with pytest.raises(UsageError, match="takes every pair as a positive one"):
        objective.check(BatchFacts(rows=4, negatives=1, scored=False, most_scores=1))
