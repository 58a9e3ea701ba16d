"""Checkpoints that are whole or not there: written in their folder under another name, forced to the disk, renamed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from inbatch.callbacks.evaluation import Evaluation
from inbatch.callbacks.ranks import on_rank_zero
from inbatch.callbacks.signals import Signals, Stopped
from inbatch.errors import InbatchError
from inbatch.files import replace_by_link, replace_file


class WholeFiles(CheckpointIO):
    """Write each checkpoint to a temporary file in its own folder and rename it; load only what is whole.

    A failure to write is kept for `raise_failure`, because the trainer's other ranks wait for this one after each save.
    """

    def __init__(self) -> None:
        self._failure: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write; see `CheckpointIO`."""
        try:
            with replace_file(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as either
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            self._failure = str(getattr(cause, "strerror", None) or cause).splitlines()[0]

    def raise_failure(self, path: Path) -> None:
        """Raise an `InbatchError` if the last save failed."""
        if self._failure is not None:
            reason, self._failure = self._failure, None
            earlier = resumable(path.parent)
            kept = "there is no earlier one" if earlier is None else f"the one of step {step_of(earlier)} is kept"
            raise InbatchError(
                f"cannot write the checkpoint {path}: {reason}; {kept}. Free space, then give the same command."
            )

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Load to the CPU.

        Raises:
            InbatchError: if the file is damaged.
        """
        if not is_whole(path):
            raise InbatchError(f"the checkpoint {path} is damaged. Remove it, or set --fresh.")
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Save ``last.ckpt`` every so many steps, at the end and on a signal, and ``best.ckpt`` where the evaluation improved.

    Args:
        folder: of the checkpoints.
        every: steps.
        files: the plugin that the trainer saves with.
        signals: asked after each step.
        evaluation: asked whether this step is the best so far; it must come before this callback.
    """

    def __init__(self, folder: Path, every: int, files: WholeFiles, signals: Signals, evaluation: Evaluation) -> None:
        self.last = folder / "last.ckpt"
        self.best = folder / "best.ckpt"
        self.every = every
        self.files = files
        self.signals = signals
        self.evaluation = evaluation
        self.saved_step = -1
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run stands."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if this batch ended an optimizer step and a checkpoint is due."""
        step = trainer.global_step
        if step == self._step:
            return  # gradients of a step are half accumulated: no boundary
        self._step = step
        signum = self.signals.agreed()
        improved = self.evaluation.best_step == step
        if signum or improved or step % self.every == 0 or step == trainer.max_steps:
            self.save(trainer, improved)
        if signum and step != trainer.max_steps:
            raise Stopped(signum, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what training that ended by epochs left unsaved."""
        if self.saved_step != trainer.global_step:
            self.save(trainer, self.evaluation.best_step == trainer.global_step)

    def save(self, trainer: Trainer, improved: bool) -> None:
        """Save the whole state as the last and, if it improved, as the best.

        Raises:
            InbatchError: if it cannot be written; the previous checkpoint is kept.
        """
        for logger in trainer.loggers:
            logger.save()  # a resumed run takes for granted that the numbers up to its checkpoint are there
        # The best comes first: a last that calls itself the best must find it there when it is resumed.
        written = self.best if improved else self.last
        trainer.save_checkpoint(written)
        on_rank_zero(lambda: self.files.raise_failure(written))
        if improved and trainer.is_global_zero:
            replace_by_link(written, self.last)
        self.saved_step = trainer.global_step


def resumable(folder: Path) -> Path | None:
    """Return the checkpoint to resume from: the last, or the best if the last is damaged; None if there is none.

    Raises:
        InbatchError: if all that there are damaged.
    """
    damaged = []
    for path in (folder / "last.ckpt", folder / "best.ckpt"):
        if path.exists() and is_whole(path):
            if damaged:
                rank_zero_warn(f"{damaged[0]} is damaged; resuming from {path.name}, an earlier state")
            return path
        if path.exists():
            damaged.append(path)
    if damaged:
        raise InbatchError(f"the checkpoint {damaged[0]} is damaged, and there is no other. Remove it, or set --fresh.")
    return None


def is_whole(path: str | Path) -> bool:
    """Check a checkpoint's sums, which torch writes and never looks at; a file cut short has not even a table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def step_of(path: Path) -> int:
    """Return the optimizer step that a checkpoint holds."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)[
        "global_step"
    ]  # maps the tensors, reads none
