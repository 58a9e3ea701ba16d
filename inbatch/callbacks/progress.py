"""Progress on a terminal as a bar, elsewhere as a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from inbatch.accumulation import optimizer_steps, scheduled

SECONDS_BETWEEN_LINES = 5.0


class Progress(ProgressBar):
    """Show step, loss, sentences a second and the time left, on stderr and on rank 0 only."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Any = None
        self._first_step = self._step = 0
        self._start = self._shown = 0.0

    def disable(self) -> None:
        """Show nothing; the trainer calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run stands."""
        self._first_step = self._step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch, after what is done before training."""
        if not self._start:
            self._start = self._shown = time.monotonic()
            if self._enabled and sys.stderr.isatty():
                self._bar = _bar(total_steps(trainer), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show an optimizer step."""
        step, total = trainer.global_step, total_steps(trainer)
        if step == self._step or not self._enabled:
            return
        self._step = step
        numbers: Any = pl_module.metrics
        text = f"loss {numbers['train/loss']:.4f}  {numbers['perf/sentences_per_s']:,.0f} sentences/s"
        now = time.monotonic()
        if total is not None:  # rich would forget a step that took more than half a minute
            text += f"  ETA {clock((now - self._start) / (step - self._first_step) * (total - step))}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, numbers=text)
        elif now - self._shown >= SECONDS_BETWEEN_LINES or step in (self._first_step + 1, total):
            self._shown = now
            print(f"step {step}{'' if total is None else f'/{total}'}  {text}", file=sys.stderr, flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the finished bar on the screen."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar where it was."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def total_steps(trainer: Trainer) -> int | None:
    """Return the optimizer steps of the whole run; None if they cannot be known."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if batches == float("inf") or not epochs or epochs < 0:
        return None
    return optimizer_steps(scheduled(trainer), int(batches), epochs)


def clock(seconds: float) -> str:
    """Write a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(total: int | None, completed: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("step"), MofNCompleteColumn(), TimeElapsedColumn(), BarColumn(20))
    bar = RichProgress(*columns, TextColumn("{task.fields[numbers]}"), console=Console(stderr=True))
    bar.add_task("train", total=total, completed=completed, numbers="")
    bar.start()
    return bar
