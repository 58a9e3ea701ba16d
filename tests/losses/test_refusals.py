from __future__ import annotations

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.graded.angle import Angle
from inbatch.losses.graded.cosent import CoSENT
from inbatch.views import Views


@pytest.mark.parametrize("objective", [CoSENT(), Angle(), InfoNCE(positive_score=0.5)])
def test_a_score_for_each_candidate_is_refused_where_a_row_has_one(objective):
    z = Views(torch.randn(3, 4), torch.randn(3, 4), (torch.randn(3, 4),), score=torch.rand(3, 2))
    with pytest.raises(UsageError, match=r"expects one score a row, .*; got 2\. Set columns\.score to one column"):
        objective(z, None, None)
