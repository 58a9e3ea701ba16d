"""How many batches an optimizer step accumulates, epoch by epoch, and how many steps a run of epochs therefore has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Stretch(NamedTuple):
    """Epochs with one accumulation.

    Attributes:
        epochs: how many; infinite for the last ones.
        batches: that one optimizer step accumulates.

    Example:
        >>> warm_up = Stretch(epochs=2, batches=4)
        >>> warm_up.epochs * 100 / warm_up.batches  # optimizer steps, where an epoch has 100 batches
        50.0
    """

    epochs: float
    batches: int


def scheduled(trainer: Any) -> dict[int, int]:
    """Return which accumulation holds from which epoch on: that of Lightning's `GradientAccumulationScheduler`, or one for all.

    Example:
        >>> from types import SimpleNamespace
        >>> from lightning.pytorch.callbacks import GradientAccumulationScheduler
        >>> scheduled(SimpleNamespace(accumulate_grad_batches=8))
        {0: 8}
        >>> scheduled(SimpleNamespace(callbacks=[GradientAccumulationScheduler({0: 1, 2: 4})]))
        {0: 1, 2: 4}
    """
    for callback in getattr(trainer, "callbacks", None) or []:
        if hasattr(callback, "get_accumulate_grad_batches"):
            return dict(callback.scheduling)
    return {0: trainer.accumulate_grad_batches}


def stretches(schedule: Mapping[int, int]) -> Iterator[Stretch]:
    """Yield the stretches of epochs of a schedule that begins at epoch 0.

    Example:
        >>> list(stretches({0: 1, 2: 4}))  # two epochs of one batch a step, then four
        [Stretch(epochs=2, batches=1), Stretch(epochs=inf, batches=4)]
    """
    starts = sorted(schedule)
    for start, following in zip(starts, [*starts[1:], math.inf]):
        yield Stretch(following - start, schedule[start])


def optimizer_steps(schedule: Mapping[int, int], batches: int, epochs: int) -> int:
    """Return the optimizer steps of so many epochs of ``batches`` each; the last batch of an epoch always ends a step.

    Example:
        >>> optimizer_steps({0: 1, 2: 4}, batches=10, epochs=3)  # 10 + 10 + 3: of the last three steps one has two batches
        23
    """
    steps = 0
    for stretch in stretches(schedule):
        counted = int(min(stretch.epochs, epochs))
        steps += math.ceil(batches / stretch.batches) * counted
        epochs -= counted
    return steps
