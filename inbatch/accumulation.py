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
    """

    epochs: float
    batches: int


def scheduled(trainer: Any) -> dict[int, int]:
    """Return which accumulation holds from which epoch on: that of Lightning's `GradientAccumulationScheduler`, or one for all."""
    for callback in getattr(trainer, "callbacks", None) or []:
        if hasattr(callback, "get_accumulate_grad_batches"):
            return dict(callback.scheduling)
    return {0: trainer.accumulate_grad_batches}


def stretches(schedule: Mapping[int, int]) -> Iterator[Stretch]:
    """Yield the stretches of epochs of a schedule that begins at epoch 0."""
    starts = sorted(schedule)
    for start, following in zip(starts, [*starts[1:], math.inf]):
        yield Stretch(following - start, schedule[start])


def optimizer_steps(schedule: Mapping[int, int], batches: int, epochs: int) -> int:
    """Return the optimizer steps of so many epochs of ``batches`` each; the last batch of an epoch always ends a step."""
    steps = 0
    for stretch in stretches(schedule):
        counted = int(min(stretch.epochs, epochs))
        steps += math.ceil(batches / stretch.batches) * counted
        epochs -= counted
    return steps
