"""A sum of objectives is the sum, in value, gradient and logs."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.infonce import InfoNCE
from inbatch.losses.weighted import WeightedSum
from inbatch.views import Views


def test_weights_and_logs():
    views = Views(torch.randn(5, 4, requires_grad=True), torch.randn(5, 4))
    terms = {"near": InfoNCE(0.1), "far": InfoNCE(0.5)}
    output = WeightedSum(terms, {"far": 0.25})(views, None, None)
    losses = {name: term(views, None, None).loss for name, term in terms.items()}
    assert torch.allclose(output.loss, losses["near"] + 0.25 * losses["far"])
    assert torch.allclose(output.logs["far/loss"], losses["far"])
    assert output.logs["near/temperature"] == pytest.approx(0.1)
    output.loss.backward()
    assert views.anchor.grad.abs().sum() > 0


def test_parameters_of_the_terms_are_its_own():
    both = WeightedSum({"a": InfoNCE(learn_temperature=True), "b": InfoNCE()})
    assert [name for name, _ in both.named_parameters()] == ["terms.a.log_scale"]


@pytest.mark.parametrize(("terms", "weights"), [({}, None), ({"a": InfoNCE()}, {"b": 1.0})])
def test_no_terms_and_weights_of_nothing_are_refused(terms, weights):
    with pytest.raises(UsageError, match="expected weights of the terms"):
        WeightedSum(terms, weights)
