"""SigLIP: one value by hand, and the contract with algorithm 1 of the paper written out."""

import math

import pytest
import torch
from contract import contract
from torch.nn.functional import logsigmoid, normalize

from inbatch.errors import UsageError
from inbatch.losses.contrastive.siglip import SigLIP
from inbatch.views import Views


def dense(z):
    a, *keys = (normalize(view, dim=1) for view in z)
    logits = 10 * a @ torch.cat(keys).T - 10
    return -logsigmoid((2 * torch.eye(*logits.shape) - 1) * logits).sum() / len(a)


TestContract = contract(SigLIP, dense=dense)


def test_by_hand():
    """Cosines [[1, 0], [0.8, 0.6]], t = 2, b = -1: logits [[1, -1], [0.6, 0.2]], of which the diagonal is the positives."""
    z = Views(torch.tensor([[1.0, 0], [4, 3]]), torch.eye(2))
    expected = sum(math.log1p(math.exp(x)) for x in (-1, -1, 0.6, -0.2)) / 2
    output = SigLIP(0.5, -1.0)(z, None, None)
    assert float(output.loss.detach()) == pytest.approx(expected)
    output.loss.backward()


def test_scale_and_bias_are_learnt():
    objective, z = SigLIP(), Views(torch.randn(4, 3), torch.randn(4, 3))
    objective(z, None, None).loss.backward()
    assert all(parameter.grad is not None and parameter.grad != 0 for parameter in objective.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "a finite temperature > 0; got 0.0. Set objective.temperature"),
        ({"temperature": math.inf}, "a finite temperature > 0; got inf"),
        ({"bias": math.nan}, "a finite bias; got nan. Set objective.bias"),
    ],
)
def test_numbers_out_of_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        SigLIP(**given)
