"""PromCSE's hinge: the released code's numbers, and which negatives count."""

import math

import pytest
import torch
from contract import contract
from paper_rows import Z1, Z2, Z3
from torch.nn.functional import normalize

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge, energy_hinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.views import Views

OTHER_Z3 = torch.tensor([[1, 0.3, -0.5], [-1, 0.2, 0], [-1, -1, 0]], dtype=torch.float64)


@pytest.mark.parametrize(("z3", "expected"), [(Z3, 0.018082), (OTHER_Z3, 0.024096)])
def test_equals_the_released_code_to_six_digits(z3, expected):
    assert abs(float(EnergyHinge(0.2)(Views(Z1, Z2, (z3,)), None, None).loss) - expected) < 5e-7


def test_the_papers_sum_of_terms():
    method = WeightedSum({"contrast": InfoNCE(0.05), "hinge": EnergyHinge(0.2)}, {"hinge": 10.0})
    output = method(Views(Z1, Z2, (Z3,)), None, None)
    assert abs(float(output.logs["contrast/loss"]) - 0.047056) < 5e-7
    assert abs(float(output.loss) - 0.227877) < 5e-7
    assert output.logs["hinge/active"] == pytest.approx(1 / 3)


def naive(a, p, ns, margin):
    cosines = torch.cat([a @ p.T, *(a @ n.T for n in ns)], 1)
    cosines = cosines.masked_fill(torch.eye(len(a), cosines.shape[1], dtype=torch.bool), -torch.inf)
    return torch.relu(margin + cosines.amax(1) - (a * p).sum(1)).mean()


def test_value_and_gradient_equal_the_naive_form():
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(4)]
    a, p, *ns = (normalize(x, dim=-1) for x in made)
    losses, found = energy_hinge(a, p, ns, 0.3)
    assert found.rows == 7
    wanted = naive(a, p, ns, 0.3)
    assert torch.allclose(losses.mean(), wanted)
    gradients, expected = (torch.autograd.grad(loss, made, retain_graph=True) for loss in (losses.mean(), wanted))
    assert all(torch.allclose(x, y) for x, y in zip(gradients, expected))
    assert all(x.abs().sum() > 0 for x in gradients)


def test_with_one_row_only_hard_negatives_count():
    z = Views(Z1[2:], Z2[2:], (Z3[2:],))
    losses, _ = energy_hinge(*(normalize(x, dim=-1) for x in (z.anchor, z.positive)), [normalize(Z3[2:], dim=-1)], 1.0)
    assert losses.item() == pytest.approx(1.0 + 0.0 - 0.962250, abs=1e-6)
    nothing, _ = energy_hinge(normalize(z.anchor, dim=-1), normalize(z.positive, dim=-1), [], 1.0)
    assert nothing.item() == 0.0


def test_equal_texts_are_no_negatives():
    a, p = normalize(Z1, dim=-1), normalize(Z2, dim=-1)
    same = Views(torch.tensor([1, 2, 3]), torch.tensor([7, 7, 7]))
    losses, _ = energy_hinge(a, p, [], 1.0, ids=same)
    assert losses.tolist() == [0.0, 0.0, 0.0]


def test_data_without_hard_negatives_and_a_margin_of_nan_are_refused():
    with pytest.raises(UsageError, match="EnergyHinge expects a hard negative"):
        EnergyHinge().check(BatchFacts(8, 0, False))
    with pytest.raises(UsageError, match="finite margin"):
        EnergyHinge(math.nan)


def dense(z):
    a, p, *ns = (normalize(view, dim=-1) for view in z)
    return naive(a, p, ns, 0.4)


TestContract = contract(lambda: EnergyHinge(0.4), dense=dense)
