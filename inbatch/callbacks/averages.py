"""Averages of weights (Lightning's `WeightAveraging`, such as `EMAWeightAveraging`) are what is judged and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


@contextmanager
def averaged(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Let the module hold the averages meanwhile, where there are any, as in a validation of Lightning's."""
    for callback in _averages(trainer):
        callback.on_validation_epoch_start(trainer, module)
    try:
        yield
    finally:
        for callback in _averages(trainer):
            callback.on_validation_epoch_end(trainer, module)


def keep_beside(callbacks: Iterable[Any]) -> None:
    """Let callbacks leave the averages beside the weights at the end of the training, so that what is saved then can be trained on."""
    for callback in callbacks:
        if isinstance(callback, WeightAveraging):
            callback.on_train_end = lambda *_, **__: None


def take_averages(trainer: Trainer, module: LightningModule) -> None:
    """Leave the averages in the module, once nothing is trained or saved any more."""
    for callback in _averages(trainer):
        type(callback).on_train_end(callback, trainer, module)


def _averages(trainer: Trainer) -> list[WeightAveraging]:
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
