"""A run whose time is over stops between two optimizer steps, with a checkpoint from which it goes on exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from inbatch.callbacks.checkpoint import Checkpoints
from inbatch.callbacks.progress import total_steps
from inbatch.callbacks.ranks import highest
from inbatch.callbacks.signals import OutOfTime
from inbatch.errors import UsageError


class MaxTime(Timer):
    """Measures as Lightning's `Timer`, over all starts of the run; what it does at the end is ours.

    Lightning stops after any batch, in the midst of an accumulation, and counts the epoch that it broke off as done.

    Args:
        duration: as ``trainer.max_time`` is written.
        checkpoints: saves before the run stops; it must come before this callback.
        is_end: whether nothing else ends the training: then it is finished when the time is over.

    Raises:
        OutOfTime: between two steps, when the time is over before the training.
        UsageError: if it is over before the first step.

    Example:
        >>> from types import SimpleNamespace
        >>> timer = MaxTime({"hours": 0}, checkpoints=None, is_end=False)
        >>> timer.on_train_start(SimpleNamespace(global_step=200), None)  # resumed, although its time was over
        Traceback (most recent call last):
        inbatch.callbacks.signals.OutOfTime: trainer.max_time is over: stopped after step 200, which is saved.
        The same command with a longer max_time goes on.
    """

    def __init__(self, duration: str | timedelta | dict[str, int], checkpoints: Checkpoints, is_end: bool) -> None:
        super().__init__(duration)
        self.checkpoints = checkpoints
        self.is_end = is_end
        self._step = 0

    @property
    def state_key(self) -> str:
        """The name that Lightning's has in checkpoints."""
        return "Timer"

    def on_fit_start(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Decide nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; where the time was over before, stop at once."""
        super().on_train_start(trainer, pl_module)
        self._step = trainer.global_step
        if self._over():
            self._stop(trainer, saved=True)

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Stop where a step is done and the time is over."""
        step = trainer.global_step
        if step == self._step:
            return  # gradients of a step are half accumulated
        self._step = step
        if step != total_steps(trainer) and self._over():
            self._stop(trainer, saved=self.checkpoints.saved_step == step)

    def _over(self) -> bool:
        remaining = self.time_remaining()
        return bool(highest(int(remaining is not None and remaining <= 0)))

    def _stop(self, trainer: Trainer, saved: bool) -> None:
        if self.is_end:
            trainer.should_stop = True
            return
        if trainer.global_step == 0:
            raise UsageError("the time is over before the first step. Set a longer trainer.max_time.")
        if not saved:
            with self.checkpoints.signals.held():
                self.checkpoints.save(trainer, improved=False)  # a step that improved has been saved
        raise OutOfTime(trainer.global_step)
