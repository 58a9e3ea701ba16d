"""DCL: one value by hand, and the contract with the paper's formula written out."""

import math

import pytest
import torch
from contract import contract
from torch.nn.functional import normalize

from inbatch.errors import UsageError
from inbatch.losses.contrastive.dcl import DCL
from inbatch.views import Views


def dense(z):
    a, *keys = (normalize(view, dim=1) for view in z)
    s = 10 * a @ torch.cat(keys).T
    return (s.masked_fill(torch.eye(*s.shape, dtype=torch.bool), -torch.inf).logsumexp(1) - s.diagonal()).mean()


TestContract = contract(lambda: DCL(0.1), dense=dense)


def test_by_hand():
    """s = [[1, 0], [0.8, 0.6]] / 0.5: the rows' losses are -2 + 0 and -1.2 + 1.6."""
    z = Views(torch.tensor([[1.0, 0], [4, 3]]), torch.eye(2))
    assert float(DCL(0.5)(z, None, None).loss) == pytest.approx((-2 + 0.4) / 2)


def test_a_row_without_candidates_has_loss_and_gradient_0():
    anchor = torch.randn(2, 3, requires_grad=True)
    output = DCL()(Views(anchor, torch.randn(2, 3), ids=Views(torch.tensor([1, 1]), torch.tensor([2, 2]))), None, None)
    output.loss.backward()
    assert (float(output.loss.detach()), output.logs["rows_without_negatives"]) == (0.0, 2)
    assert not anchor.grad.any()


@pytest.mark.parametrize("temperature", [0.0, math.inf])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(UsageError, match="finite temperature > 0"):
        DCL(temperature)
