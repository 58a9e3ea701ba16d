from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from inbatch.callbacks.boundary import Boundary
from inbatch.losses.base import Objective


class Following(Objective):
    """Moves a frozen copy, as a momentum queue does, and holds a network that is frozen and left alone."""

    moves_frozen = True

    def __init__(self) -> None:
        super().__init__()
        self.average = nn.Linear(2, 2).requires_grad_(False)
        self.live = nn.Linear(2, 2)
        self.register_buffer("queue", torch.zeros(3, 2))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


class Module(nn.Module):
    batches_seen = samples_seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(2, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2)
        self.objective = Following()


class Callback:
    def __init__(self, key: str, state: dict[str, Any]) -> None:
        self.state_key, self.state = key, state

    def state_dict(self) -> dict[str, Any]:
        return self.state


def trainer() -> Any:
    return SimpleNamespace(
        current_epoch=1,
        global_step=4,
        fit_loop=SimpleNamespace(state_dict=lambda: {"batch": 7}),
        callbacks=[Callback("counting", {"seen": [1, 2]}), Callback("plain", {})],
    )


def spoil(module: Module) -> None:
    """Change what a step changes before its optimizer's step."""
    module.norm(torch.randn(5, 2))
    with torch.no_grad():
        module.objective.average.weight.lerp_(torch.ones(2, 2), 0.25)
        module.objective.queue[1:] = 3  # type: ignore[index]
        module.objective.filled.fill_(2)  # type: ignore[operator]
    module.batches_seen += 2
    module.samples_seen += 9


def test_what_a_step_changes_before_its_end_is_put_back_exactly():
    module, boundary = Module(), Boundary()
    for _ in range(2):  # each boundary anew
        boundary.take(trainer(), module)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        counts = module.batches_seen, module.samples_seen
        held = module.objective.queue
        spoil(module)
        assert any(not torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        boundary.put_back(module)
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert module.objective.queue is held
        assert (module.batches_seen, module.samples_seen) == counts
        spoil(module)


def test_only_what_moves_is_kept():
    module, boundary = Module(), Boundary()
    boundary.take(trainer(), module)
    moving = [module.norm.running_mean, module.norm.running_var, module.norm.num_batches_tracked]
    moving += [module.objective.queue, module.objective.filled, *module.objective.average.parameters()]
    assert sum(tensor.numel() for tensor in boundary._kept) == sum(tensor.numel() for tensor in moving)


def test_a_checkpoint_says_what_trainer_and_callbacks_were():
    runner, boundary = trainer(), Boundary()
    boundary.take(runner, Module())
    runner.callbacks[0].state["seen"].append(3)
    checkpoint = {
        "epoch": 2,
        "loops": {"fit_loop": {"batch": 8}, "test_loop": {}},
        "callbacks": {"counting": {"seen": [1, 2, 3]}},
    }
    boundary.describe_in(checkpoint)
    loops = {"fit_loop": {"batch": 7}, "test_loop": {}}
    assert checkpoint == {"epoch": 1, "loops": loops, "callbacks": {"counting": {"seen": [1, 2]}}}


def test_of_a_checkpoint_that_is_resumed_only_the_trainers_place_is_taken():
    boundary = Boundary()
    boundary.adopt({"epoch": 3, "loops": {"fit_loop": {"batch": 1}}, "callbacks": {"counting": {}}})
    checkpoint = {"epoch": 0, "loops": {"fit_loop": {}}, "callbacks": {"counting": {"seen": [9]}}}
    boundary.describe_in(checkpoint)
    assert checkpoint == {"epoch": 3, "loops": {"fit_loop": {"batch": 1}}, "callbacks": {"counting": {"seen": [9]}}}
