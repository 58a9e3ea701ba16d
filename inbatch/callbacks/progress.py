"""Progress on a terminal as a bar, elsewhere as a plain line every few seconds, inside of a step too."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from inbatch import activity
from inbatch.activity import SECONDS_BETWEEN_LINES, clock
from inbatch.kernels.caching import observed_chunks


class Progress(ProgressBar):
    """Show step, loss, sentences a second and the time left, on stderr and on rank 0 only.

    Within a step: how many of the chunks of the pass that is going on are done. Where there is no terminal, `activity.spoken` says it.

    Example:
        >>> from contextlib import redirect_stderr
        >>> from types import SimpleNamespace
        >>> module = SimpleNamespace(steps=lambda: -1, metrics={"train/loss": 0.75, "perf/sentences_per_s": 1200.0})
        >>> trainer = SimpleNamespace(global_step=1, lightning_module=module)  # nobody knows of how many steps
        >>> with redirect_stderr(sys.stdout):
        ...     Progress().on_train_batch_end(trainer, module, None, None, 0)
        step 1  loss 0.7500  1,200 sentences/s
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Any = None
        self._first_step = self._step = self._batch = 0
        self._steps = ""  # of how many steps, if that is known
        self._start = self._shown = self._batch_start = 0.0
        self._chunks = ""
        self._open = ExitStack()

    def disable(self) -> None:
        """Show nothing; the trainer calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run stands."""
        self._first_step = self._step = trainer.global_step
        total = total_steps(trainer)
        self._steps = "" if total is None else f"/{total}"
        if self._enabled:
            self._batch_start = time.monotonic()
            self._open.enter_context(activity.doing(self._within_step))
            self._open.enter_context(observed_chunks(self._at_chunk))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch, after what is done before training."""
        self._batch_start, self._chunks = time.monotonic(), ""
        if not self._start:
            self._start = self._shown = time.monotonic()
            if self._enabled and sys.stderr.isatty():
                self._bar = _bar(total_steps(trainer), trainer.global_step)
                self._bar.start()
                self._open.enter_context(activity.quiet())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show an optimizer step."""
        step, total = trainer.global_step, total_steps(trainer)
        self._batch, self._chunks = (0 if step != self._step else self._batch + 1), ""
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
            activity.said()
            print(f"step {step}{'' if total is None else f'/{total}'}  {text}", file=sys.stderr, flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the finished bar on the screen."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar where it was."""
        self._close()

    def _at_chunk(self, direction: str, done: int, total: int) -> None:
        self._chunks = f"  {direction} {done}/{total}"

    def _within_step(self) -> str:
        if f"/{self._step}" == self._steps:
            return ""
        batch = f" batch {self._batch + 1}" if self._batch else ""
        took = clock(time.monotonic() - self._batch_start)
        if self._bar is not None:  # which counts the steps itself
            return f"{batch}{self._chunks}  {took}".strip()
        return f"step {self._step + 1}{self._steps}{batch}{self._chunks}{' chunks' if self._chunks else ''}  {took}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._open.close()


def total_steps(trainer: Trainer) -> int | None:
    """Return the optimizer steps of the whole run; None if they cannot be known.

    Example:
        >>> from types import SimpleNamespace
        >>> total_steps(SimpleNamespace(lightning_module=SimpleNamespace(steps=lambda: 15625)))
        15625
        >>> total_steps(SimpleNamespace(lightning_module=SimpleNamespace(steps=lambda: -1))) is None
        True
    """
    module: Any = trainer.lightning_module
    steps = module.steps()
    return steps if steps > 0 else None


def _bar(total: int | None, completed: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    class Within(ProgressColumn):
        """What is being done now, asked at each refresh."""

        def render(self, task: Any) -> Text:
            return Text(activity.now())

    console = Console(stderr=True)
    columns = [TextColumn("step"), MofNCompleteColumn()]
    if console.width >= 110:  # else what comes behind would be cut
        columns += [TimeElapsedColumn(), BarColumn(20)]
    numbers = TextColumn("{task.fields[numbers]}")
    bar = RichProgress(*columns, numbers, Within(table_column=Column(no_wrap=True)), console=console)
    bar.add_task("train", total=total, completed=completed, numbers="")
    return bar
