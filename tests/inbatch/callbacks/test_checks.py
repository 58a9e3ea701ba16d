from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from inbatch.callbacks.checks import KEY_BIAS, Checks
from inbatch.errors import TrainingError

NAN, INF = float("nan"), float("inf")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Parameter(torch.ones(2))
        self.lora_a = nn.Parameter(torch.ones(2))
        self.key = nn.Linear(2, 2)
        self.mean_loss = 1.0
        self.metrics: dict[str, float] = {}


def trainer(step: int = 0, world_size: int = 1, scaler: Any = None) -> Any:
    return SimpleNamespace(global_step=step, world_size=world_size, precision_plugin=SimpleNamespace(scaler=scaler))


def step(checks: Checks, model: Model, used: float, lora_a: float | None, *, lr: float = 0.1, **given: Any) -> None:
    model.key.requires_grad_(False)
    model.used.grad = torch.full((2,), used)
    model.lora_a.grad = None if lora_a is None else torch.full((2,), lora_a)
    optimizer: Any = SimpleNamespace(param_groups=[{"lr": lr}, {"lr": 0.0}])
    checks.on_before_optimizer_step(trainer(**given), model, optimizer)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_names_the_step(loss: float):
    model = Model()
    model.mean_loss = loss
    with pytest.raises(TrainingError, match=f"the loss is {loss} at step 8; the weights were not updated"):
        Checks().on_before_backward(trainer(step=7), model, torch.tensor(loss))  # type: ignore[arg-type]


def test_a_gradient_that_is_not_finite_names_the_step_except_where_a_scaler_meets_it_by_design():
    with pytest.raises(TrainingError, match="the gradient's norm is inf at step 1"):
        step(Checks(), Model(), INF, 1.0)
    step(Checks(), Model(), INF, 1.0, scaler=object())


def test_the_norm_of_all_gradients_is_noted():
    model = Model()
    step(Checks(), model, 3.0, 4.0)
    assert model.metrics["train/grad_norm"] == pytest.approx(50**0.5)


def test_one_step_without_gradient_is_no_fault_and_two_are():
    checks, model = Checks(), Model()
    step(checks, model, 1.0, 0.0)  # as LoRA's A, whose B is still zero
    step(checks, model, 1.0, 0.5)
    checks = Checks()
    step(checks, model, 1.0, 0.0)
    with pytest.raises(TrainingError, match="no gradient reached lora_a in the first 2 steps"):
        step(checks, model, 1.0, 0.0)


def test_none_counts_as_zero_and_different_parameters_do_not_add_up():
    checks, model = Checks(), Model()
    step(checks, model, 0.0, 1.0)
    step(checks, model, 1.0, None)
    checks = Checks()
    step(checks, model, 1.0, None)
    with pytest.raises(TrainingError, match="lora_a"):
        step(checks, model, 1.0, 0.0)


def test_steps_that_teach_nothing_do_not_count():
    checks, model = Checks(), Model()
    for _ in range(3):
        step(checks, model, 1.0, 0.0, lr=0.0)  # warm-up starts at 0, and leaves LoRA's B at zero
    step(checks, model, 1.0, 0.0)
    model.mean_loss = 0.0
    step(checks, model, 1.0, 0.0)  # nothing to learn from
    model.mean_loss = 1.0
    step(checks, model, 1.0, 0.5)
    assert model.metrics["train/grad_norm"] == pytest.approx(2.5**0.5)


def test_later_steps_are_not_looked_at():
    checks, model = Checks(), Model()
    for _ in range(2):
        step(checks, model, 1.0, 1.0)
    step(checks, model, 1.0, None)
    assert model.metrics["train/grad_norm"] == pytest.approx(2**0.5)


def test_on_several_ranks_the_first_step_decides_about_unused_parameters():
    with pytest.raises(TrainingError, match="lora_a in the first step"):
        step(Checks(), Model(), 1.0, None, world_size=2)
    step(Checks(), Model(), 1.0, 0.0, world_size=2)


def test_many_names_are_cut_short():
    model: Any = nn.Module()
    for number in range(8):
        model.register_parameter(f"p{number}", nn.Parameter(torch.ones(1)))
    model.mean_loss, model.metrics = 1.0, {}
    checks, optimizer = Checks(), SimpleNamespace(param_groups=[{"lr": 1.0}])
    checks.on_before_optimizer_step(trainer(), model, optimizer)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="p0, p1, p2, p3, p4 and 3 more"):
        checks.on_before_optimizer_step(trainer(), model, optimizer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "encoder.backbone.model.encoder.layer.0.attention.self.key.bias",
        "model.layers.3.self_attn.k_proj.bias",
        "transformer.layer.1.attention.k_lin.bias",
        "model.layers.3.self_attn.k_proj.base_layer.bias",
    ],
)
def test_attention_key_biases_are_exempt(name: str):
    assert KEY_BIAS.search(name)


@pytest.mark.parametrize(
    "name", ["attention.self.query.bias", "attention.self.key.weight", "monkey.bias", "x.v_proj.bias"]
)
def test_other_parameters_are_not(name: str):
    assert not KEY_BIAS.search(name)


class Adapted(nn.Module):
    """One adapter, under the names that peft gives."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.ModuleDict({"lora_A": nn.ModuleDict({"default": nn.Linear(2, 1, bias=False)})})
        self.q["lora_B"] = nn.ModuleDict({"default": nn.Linear(1, 2, bias=False)})
        self.mean_loss, self.metrics = 1.0, {}

    def step(self, checks: Checks, a: float, b: float, lr: float = 0.1) -> None:
        for name, value in (("lora_A", a), ("lora_B", b)):
            weight = self.q[name]["default"].weight  # type: ignore[index]
            weight.grad = torch.full_like(weight, value)
        checks.on_before_optimizer_step(trainer(), self, SimpleNamespace(param_groups=[{"lr": lr}]))  # type: ignore[arg-type]


def test_of_adapters_every_b_learns_at_once_and_every_a_from_the_second_step():
    model = Adapted()
    checks = Checks()
    model.step(checks, 0.0, 1.0)
    model.step(checks, 1.0, 1.0)
    with pytest.raises(
        TrainingError, match="no gradient reached q.lora_B.default.weight in the first step.*lora.targets"
    ):
        model.step(Checks(), 1.0, 0.0)
    with pytest.raises(TrainingError, match="lora_B.default.weight in the first step"):
        model.step(Checks(), 0.0, 0.0, lr=0.0)
    for a, b, name in ((0.0, 1.0, "A"), (1.0, 0.0, "B")):
        checks = Checks()
        model.step(checks, 0.0, 1.0, lr=0.0)  # a warm-up that starts at 0 leaves B at 0, and A without a gradient
        model.step(checks, 0.0, 1.0)
        with pytest.raises(TrainingError, match=f"q.lora_{name}.default.weight in the second step"):
            model.step(checks, a, b)
