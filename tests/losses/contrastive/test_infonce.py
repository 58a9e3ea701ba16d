"""InfoNCE: the released code's numbers, what each option means, and ranks in one process's place."""

import math

import pytest
import torch
from contract import contract
from torch.nn.functional import normalize

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.views import Views

# SimCSE's released function, run on these rows (temperature 0.05, float64, no MLP).
Z1 = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.float64)
Z2 = torch.tensor([[0.9, 0.1, 0], [0.2, 0.8, 0.1], [1, 0.5, 1]], dtype=torch.float64)
Z3 = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [1, -1, 0]], dtype=torch.float64)


def loss_of(objective, views):
    return objective(views, None, None).loss


@pytest.mark.parametrize(
    ("negatives", "weight", "expected"), [((), 0.0, 0.007307), ((Z3,), 0.0, 0.047056), ((Z3,), 1.0, 0.052253)]
)
def test_equals_the_released_simcse_to_six_digits(negatives, weight, expected):
    found = loss_of(InfoNCE(0.05, hard_negative_weight=weight), Views(Z1, Z2, negatives))
    assert abs(float(found) - expected) < 5e-7


def test_gradient_of_the_released_simcse():
    z = Z1.clone().requires_grad_()
    grad = torch.autograd.grad(loss_of(InfoNCE(0.05), Views(z, Z2)), z)[0]
    assert torch.allclose(grad[0], torch.tensor([0, 0.002136, 0.006383], dtype=torch.float64), atol=5e-7)


def test_gradient_by_a_parameter_that_all_rows_share():
    """The full-batch gradient of the released code's example over ranks, which the release divides by the number of ranks."""
    factor = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    stretch = torch.stack([factor, torch.ones_like(factor), torch.ones_like(factor)])
    grad = torch.autograd.grad(loss_of(InfoNCE(0.05), Views(Z1 * stretch, Z2 * stretch)), factor)[0]
    assert abs(float(grad) - 0.00090625) < 5e-9
    assert abs(float(grad) / 3 - 0.00030208) < 5e-9


def test_scores_are_refused_and_not_ignored():
    with pytest.raises(UsageError, match=r"read as scores.*view: pair"):
        loss_of(InfoNCE(0.05), Views(Z1, Z2, score=torch.tensor([0.0, 0.5, 1.0])))


def unit(*shape, seed=0):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def test_the_temperature_is_learnt_and_bounded():
    objective = InfoNCE(0.05, learn_temperature=True)
    views = Views(unit(6, 4).float(), unit(6, 4, seed=1).float())
    output = objective(views, None, None)
    output.loss.backward()
    assert objective.log_scale.grad.abs() > 0
    assert abs(float(output.logs["temperature"]) - 0.05) < 1e-8
    with torch.no_grad():
        objective.log_scale.fill_(math.log(1e4))
    assert objective.scale().item() == pytest.approx(100)
    assert not list(InfoNCE(0.05).parameters())


@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_a_learnt_temperature_comes_back_from_its_bound(beyond):
    objective = InfoNCE(0.01, learn_temperature=True)
    with torch.no_grad():
        objective.log_scale += beyond
    objective(Views(unit(6, 4).float(), unit(6, 4, seed=1).float()), None, None).loss.backward()
    assert objective.log_scale.grad.abs() > 0


def test_the_projector_sees_all_views_in_one_call_and_is_trained():
    class Counting(torch.nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            assert len(x) == 18
            return super().forward(x)

    projector = Counting(4, 3)
    objective = InfoNCE(projector=projector)
    loss_of(objective, Views(*(unit(6, 4, seed=s).float() for s in range(2)), (unit(6, 4, seed=2).float(),))).backward()
    assert projector.calls == 1
    assert projector.weight.grad.abs().sum() > 0


def test_half_precision_embeddings_are_normalised_in_float32():
    views = Views(unit(6, 4).bfloat16(), unit(6, 4, seed=1).bfloat16())
    assert loss_of(InfoNCE(), views).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "finite temperature > 0"),
        ({"temperature": math.inf}, "finite temperature > 0"),
        ({"temperature": 0.005, "learn_temperature": True}, "0.01, as it is learnt"),
        ({"margin": math.nan}, "finite margin"),
        ({"hard_negative_weight": math.inf}, "finite margin and hard_negative_weight"),
        ({"false_negative_margin": math.nan}, "false_negative_margin as a number or null"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        InfoNCE(**options)


def test_a_fixed_temperature_may_be_small():
    assert InfoNCE(0.005).scale() == 200


def test_data_that_an_option_cannot_use_are_refused_before_the_first_step():
    InfoNCE().check(BatchFacts(rows=8, negatives=0, scored=False))
    InfoNCE(hard_negative_weight=0.5).check(BatchFacts(rows=8, negatives=1, scored=False))
    InfoNCE(positive_score=0.5).check(BatchFacts(rows=8, negatives=0, scored=True))
    with pytest.raises(UsageError, match="expects a hard negative in every row"):
        InfoNCE(hard_negative_weight=0.5).check(BatchFacts(rows=8, negatives=0, scored=False))
    with pytest.raises(UsageError, match=r"read as scores.*view: pair"):
        InfoNCE().check(BatchFacts(rows=8, negatives=0, scored=True))
    with pytest.raises(UsageError, match="asks for a column of scores"):
        InfoNCE(positive_score=0.5).check(BatchFacts(rows=8, negatives=0, scored=False))


TestContract = contract(lambda: InfoNCE(0.1, hard_negative_weight=0.5))
TestScoredPairs = contract(lambda: InfoNCE(0.1, positive_score=0.5), scored=True, settings={"positive_score": 0.5})
