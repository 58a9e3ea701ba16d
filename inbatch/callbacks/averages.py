"""Averages of weights (Lightning's `WeightAveraging`, such as `EMAWeightAveraging`) are what is judged and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


@contextmanager
def averaged(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Let the module hold the averages meanwhile, where there are any, as in a validation of Lightning's.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> module, average = LightningModule(), WeightAveraging(use_buffers=False)
        >>> module.weight, trainer = torch.nn.Parameter(torch.tensor(0.0)), SimpleNamespace(callbacks=[average], global_step=0)
        >>> average.setup(trainer, module, "fit")
        >>> for _ in range(2):
        ...     module.weight.data += 1  # a step
        ...     trainer.global_step += 1
        ...     average.on_train_batch_end(trainer, module, None, None, 0)
        >>> with averaged(trainer, module):
        ...     print(module.weight.item())  # of the weights 1 and 2
        1.5
        >>> module.weight.item()
        2.0
    """
    for callback in _averages(trainer):
        callback.on_validation_epoch_start(trainer, module)
    try:
        yield
    finally:
        for callback in _averages(trainer):
            callback.on_validation_epoch_end(trainer, module)


def keep_beside(callbacks: Iterable[Any]) -> None:
    """Let callbacks leave the averages beside the weights at the end of the training, so that what is saved then can be trained on.

    Example:
        >>> average = WeightAveraging(use_buffers=False)
        >>> keep_beside([average])
        >>> average.on_train_end(trainer=None, pl_module=None)  # Lightning's own would swap weights and averages
    """
    for callback in callbacks:
        if isinstance(callback, WeightAveraging):
            callback.on_train_end = lambda *_, **__: None


def take_averages(trainer: Trainer, module: LightningModule) -> None:
    """Leave the averages in the module, once nothing is trained or saved any more.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> module, average = LightningModule(), WeightAveraging(use_buffers=False)
        >>> module.weight, trainer = torch.nn.Parameter(torch.tensor(1.5)), SimpleNamespace(callbacks=[average], global_step=0)
        >>> average.setup(trainer, module, "fit")
        >>> module.weight.data += 1
        >>> take_averages(trainer, module)
        >>> module.weight.item()
        1.5
    """
    for callback in _averages(trainer):
        type(callback).on_train_end(callback, trainer, module)


def _averages(trainer: Trainer) -> list[WeightAveraging]:
    callbacks: list[Any] = getattr(trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
