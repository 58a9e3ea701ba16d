"""Which parameters the optimizer gets, and how its learning rate goes."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn

from inbatch.errors import UsageError

Schedule = Literal["constant", "linear", "cosine"]
Warmup = Literal["linear", "logarithmic"]


def warmup_of(warmup: int | float, total: int) -> int:
    """Return the steps of warm-up: as many given, or, of a number below 1, that share of all steps, rounded up.

    Args:
        warmup: a number of steps or a share of them.
        total: steps of the schedule; below 1 for a run without an end.

    Raises:
        UsageError: if a share is asked for and the run has no end, or the warm-up is longer than the run.

    Example:
        >>> warmup_of(0.1, 250)
        25
    """
    if 0 < warmup < 1 and total < 1:
        raise UsageError(f"warmup_steps={warmup} is a share of all steps; the run has no end. Set trainer.max_steps.")
    steps = math.ceil(warmup * total) if warmup < 1 else int(warmup)
    if 1 <= total < steps:
        raise UsageError(f"expected warmup_steps of at most max_steps={total}; got {steps}. Set model.warmup_steps.")
    return steps


def learning_rate_factor(step: int, schedule: Schedule, warmup: int, total: int, increase: Warmup = "linear") -> float:
    """Return the factor of the learning rate at a step (0 is the first); as in Hugging Face's schedules.

    Args:
        step: optimizer steps taken before.
        schedule: after the warm-up.
        warmup: its steps; with the step of this number the factor is 1.
        total: where a decay ends.
        increase: ``linear``, ``step / warmup``; or ``logarithmic``, ``log(step) / log(warmup)``, as DeepSpeed's warm-up is where its type
            is not set: half of the rate comes with the first sqrt(warmup) steps. The first two steps are then taken at rate 0.

    Example:
        >>> [learning_rate_factor(step, "linear", 2, 4) for step in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        if increase == "logarithmic":
            return math.log(max(1, step)) / math.log(max(2, warmup))
        return step / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def parameter_groups(module: nn.Module, decay_all: bool = False) -> list[dict[str, Any]]:
    """Group the trainable parameters by whether weight decay applies to them.

    Raises:
        UsageError: if there are none.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(nn.Linear(2, 2))]
        [1, 1]
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UsageError(
            "nothing is trainable: every parameter is frozen. Set backbone.frozen to false, or add backbone.lora."
        )
    if decay_all:
        return [{"params": trainable}]
    matrices = [p for p in trainable if p.ndim >= 2]
    others = [p for p in trainable if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
