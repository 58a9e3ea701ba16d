"""A sum of objectives is the sum, in value, gradient and logs."""

import pytest
import torch
from contract import contract

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, check_all, contrasted_views, describe, parts
from inbatch.losses.combine.weighted import Decay, WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.contrastive.momentum_queue import MomentumQueue
from inbatch.losses.graded.cosent import CoSENT
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


def test_a_term_of_weight_0_is_as_if_it_were_not_there():
    views = Views(torch.randn(5, 4), torch.randn(5, 4))
    method = WeightedSum({"a": InfoNCE(0.1), "b": CoSENT(), "c": InfoNCE(learn_temperature=True)}, {"b": 0.0, "c": 0})
    method.check(BatchFacts(rows=5, negatives=0, scored=False))
    assert [type(part) for part in parts(method)] == [WeightedSum, InfoNCE]
    assert not list(method.parameters())
    output = method(views, None, None)
    assert torch.equal(output.loss, InfoNCE(0.1)(views, None, None).loss)
    assert not any(tag.startswith(("b/", "c/")) for tag in output.logs)


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ({}, None, "a weight other than 0; got no terms"),
        ({"a": InfoNCE()}, {"a": 0.0}, "a weight other than 0; got a"),
        ({"hinge": InfoNCE()}, {"hnige": 1.0}, "weights of the terms hinge; got one of hnige. Did you mean hinge?"),
    ],
)
def test_no_terms_and_weights_of_nothing_are_refused(terms, weights, message):
    with pytest.raises(UsageError, match=message):
        WeightedSum(terms, weights)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (100, 0.95), (250, 0.879648)])
def test_a_weight_that_falls_with_the_step(step, factor):
    """PromCSE's masked-token term, as its released code weighs it."""
    assert Decay(1.0, 0.95, 100)(step) == pytest.approx(factor, abs=5e-7)
    views = Views(torch.randn(5, 4), torch.randn(5, 4))
    method = WeightedSum({"a": InfoNCE()}, {"a": Decay(0.1, 0.95, 100)})
    method.step = step
    output = method(views, None, None)
    assert torch.allclose(output.loss, 0.1 * factor * InfoNCE()(views, None, None).loss, rtol=1e-5)
    assert output.logs["a/weight"] == pytest.approx(0.1 * factor, rel=1e-5)


def test_terms_see_what_the_one_projector_made():
    projector = torch.nn.Linear(4, 3)
    views = Views(torch.randn(5, 4), torch.randn(5, 4))
    together = WeightedSum({"a": InfoNCE(0.1), "b": InfoNCE(0.5)}, projector=projector)(views, None, None).loss
    apart = sum(InfoNCE(t, projector=projector)(views, None, None).loss for t in (0.1, 0.5))
    assert torch.allclose(together, apart)


def test_a_queue_must_project_what_it_makes_itself():
    with pytest.raises(UsageError, match="the term q projects by itself.*Give the projector to each of the terms"):
        WeightedSum({"q": MomentumQueue(4)}, projector=torch.nn.Linear(4, 4))
    WeightedSum({"q": MomentumQueue(4, projector=torch.nn.Linear(4, 4))})


@pytest.mark.parametrize(("factor", "every"), [(0.0, 100), (1.5, 100), (0.9, 0)])
def test_a_decay_that_does_not_fall_is_refused(factor, every):
    with pytest.raises(UsageError, match=r"factor in \(0, 1\] and every >= 1"):
        Decay(1.0, factor, every)


def test_a_term_sees_the_views_that_it_chooses():
    """The sum of a pair term, and of a term that holds the positive against both hard negatives; ids follow their texts."""
    made = [torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    numbers = [torch.tensor([i, i + 10, i + 10, i + 20, i + 30, i + 40]) for i in range(4)]
    ids = Views(numbers[0], numbers[1], tuple(numbers[2:]))
    z = Views(made[0], made[1], tuple(made[2:]), ids=ids)
    terms = {"pairs": InfoNCE(0.1), "hard": EnergyHinge(0.4), "all": InfoNCE(0.5)}
    views = {"pairs": ["anchor", "positive"], "hard": ["positive", "anchor", "negative_2"]}
    found = WeightedSum(terms, {"hard": 10.0}, views=views)(z, z, None)
    plain = [
        InfoNCE(0.1)(Views(made[0], made[1], ids=Views(numbers[0], numbers[1])), None, None).loss,
        EnergyHinge(0.4)(
            Views(made[1], made[0], (made[3],), ids=Views(numbers[1], numbers[0], (numbers[3],))), None, None
        ).loss,
        InfoNCE(0.5)(z, None, None).loss,
    ]
    together = plain[0] + 10 * plain[1] + plain[2]
    assert torch.equal(found.loss, together)
    for one, other in zip(*(torch.autograd.grad(loss, made, allow_unused=True) for loss in (found.loss, together))):
        assert torch.equal(one, other)


def test_terms_are_checked_by_the_views_that_they_choose():
    terms = {"a": InfoNCE(), "b": EnergyHinge()}
    chosen = WeightedSum(terms, {"b": 2.0}, views={"a": ["anchor", "negative_1"], "b": ["anchor", "positive"]})
    assert describe(chosen) == "WeightedSum of InfoNCE on (anchor, negative_1), 2 × EnergyHinge on (anchor, positive)"
    assert contrasted_views(chosen, 4) == 2
    assert contrasted_views(WeightedSum(terms), 4) == 4
    assert contrasted_views(CoSENT(), 4) == 0
    with pytest.raises(UsageError, match="EnergyHinge expects a hard negative"):
        check_all(chosen, BatchFacts(rows=5, negatives=1, scored=False))
    one = WeightedSum(terms, {"b": 0.0}, views={"a": ["anchor", "negative_1"]})
    check_all(one, BatchFacts(rows=5, negatives=1, scored=True))  # what is scored is another pair
    with pytest.raises(
        UsageError, match="views that every row has: anchor, positive; got negative_1. Set objective.views.a"
    ):
        check_all(one, BatchFacts(rows=5, negatives=0, scored=False))


@pytest.mark.parametrize("name", ["", "a.b", "keys", "type"])
def test_names_that_no_module_may_have_are_refused(name):
    with pytest.raises(
        UsageError, match=f"no method of torch's ModuleDict; got '{name}'. Rename it in objective.terms"
    ):
        WeightedSum({"pairs": InfoNCE(), name: InfoNCE()})


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"c": ["anchor", "positive"]}, "views of the terms a; got one of c. Set objective.views."),
        ({"a": ["anchor"]}, "two or more different views.*; got anchor. Set objective.views.a."),
    ],
)
def test_views_of_nothing_are_refused(views, message):
    with pytest.raises(UsageError, match=message):
        WeightedSum({"a": InfoNCE()}, views=views)


TestContract = contract(
    lambda: WeightedSum({"contrast": InfoNCE(0.1), "hinge": EnergyHinge(0.4)}, {"hinge": 10.0}),
    settings={
        "terms": {"contrast": {"class_path": "InfoNCE"}, "hinge": {"class_path": "EnergyHinge"}},
        "views": {"contrast": ["anchor", "positive"]},
    },
)
