"""A scheduler of accumulation holds inside of an epoch that is resumed, too."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler


class HeldAccumulation(Callback):
    """Set at each batch the accumulation that a `GradientAccumulationScheduler` has for the epoch.

    The trainer asks the scheduler at the beginnings of epochs alone, so that the rest of a resumed epoch would accumulate nothing.

    Example:
        >>> from types import SimpleNamespace
        >>> scheduler = GradientAccumulationScheduler({0: 1, 2: 4})
        >>> trainer = SimpleNamespace(callbacks=[scheduler], current_epoch=3, accumulate_grad_batches=1)  # resumed in epoch 3
        >>> HeldAccumulation().on_train_batch_start(trainer, None, None, 0)
        >>> trainer.accumulate_grad_batches
        4
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set it."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        for scheduler in callbacks:
            if isinstance(scheduler, GradientAccumulationScheduler):
                trainer.accumulate_grad_batches = scheduler.get_accumulate_grad_batches(trainer.current_epoch)
