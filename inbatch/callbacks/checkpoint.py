"""Checkpoints that are whole or not there: written in their folder under another name, forced to the disk, renamed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from inbatch.activity import doing
from inbatch.callbacks.boundary import Boundary
from inbatch.callbacks.evaluation import Evaluation
from inbatch.callbacks.ranks import on_rank_zero
from inbatch.callbacks.signals import Signals, Stopped
from inbatch.errors import InbatchError, own_error
from inbatch.files import replace_by_link, replace_file


class WholeFiles(CheckpointIO):
    """Write each checkpoint to a temporary file in its own folder and rename it; load only what is whole.

    A failure to write is kept for `raise_failure`, because the trainer's other ranks wait for this one after each save.

    Example:
        >>> files = WholeFiles()
        >>> files.save_checkpoint({"global_step": 200}, "step200.ckpt")
        >>> files.load_checkpoint("step200.ckpt")
        {'global_step': 200}
        >>> _ = Path("step200.ckpt").write_bytes(Path("step200.ckpt").read_bytes()[:-50])
        >>> files.load_checkpoint("step200.ckpt")
        Traceback (most recent call last):
        inbatch.errors.InbatchError: the checkpoint step200.ckpt is damaged. Remove it, or set --fresh.
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

    A signal that cuts a step short leaves the checkpoint that the step before would have left.

    Args:
        folder: of the checkpoints.
        every: steps.
        files: the plugin that the trainer saves with.
        signals: wait from the optimizer's step until the new state is noted here.
        evaluation: asked whether this step is the best so far; it must come before this callback.

    Example:
        >>> from types import SimpleNamespace
        >>> folder, files = Path("checkpoints of a run"), WholeFiles()
        >>> folder.mkdir(exist_ok=True)
        >>> checkpoints = Checkpoints(folder, 100, files, Signals(), Evaluation({}))
        >>> def write(path):
        ...     files.save_checkpoint({"global_step": 100}, path)
        >>> trainer = SimpleNamespace(loggers=[], is_global_zero=True, global_step=100, save_checkpoint=write)
        >>> checkpoints.save(trainer, improved=True)
        >>> sorted(path.name for path in folder.iterdir()), checkpoints.saved_step
        (['best.ckpt', 'last.ckpt'], 100)
    """

    def __init__(self, folder: Path, every: int, files: WholeFiles, signals: Signals, evaluation: Evaluation) -> None:
        self.last = folder / "last.ckpt"
        self.best = folder / "best.ckpt"
        self.every = every
        self.files = files
        self.signals = signals
        self.evaluation = evaluation
        self.saved_step = -1
        self._step: int | None = None  # the last whole one whose state is noted
        self._boundary = Boundary()
        self._undoing = False
        self._evaluated: int | None = None  # the last step that had been when the run was resumed

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the trainer was: what is saved before the next step says the same."""
        self._boundary.adopt(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what was evaluated before."""
        self._evaluated = self.evaluation.done if trainer.ckpt_path is not None else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run stands, and save what an evaluation that was made up for has found."""
        self._step = trainer.global_step
        if trainer.ckpt_path is not None:
            self.saved_step = self._step
        self._save_what_was_made_up_for(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if this batch ended an optimizer step and a checkpoint is due."""
        step = trainer.global_step
        if step == self._step:
            return  # gradients of a step are half accumulated: no boundary
        signum = self.signals.agreed()
        improved = self.evaluation.best_step == step
        if (signum and trainer.world_size > 1) or improved or step % self.every == 0 or step == trainer.max_steps:
            self.save(trainer, improved)
        self._boundary.take(trainer, pl_module)
        self._step, self._evaluated = step, None  # from here on evaluations come before their step is saved
        if signum and trainer.world_size > 1:
            raise Stopped(signum, step)
        self.signals.let_go()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what training that ended by epochs left unsaved."""
        if self.saved_step != trainer.global_step:
            with self.signals.held():
                self.save(trainer, self.evaluation.best_step == trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what an evaluation of the last step has found that was made up for when there was nothing left to train."""
        self._save_what_was_made_up_for(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the state of the last whole step if a signal has cut short the next one, or an evaluation."""
        stopped = own_error(exception)
        if not isinstance(stopped, Stopped) or self._step is None:
            return
        step = trainer.global_step
        if self.saved_step != step and step > 0:
            self._undoing = step == self._step  # else the evaluation of a whole step was cut short
            if self._undoing:
                self._boundary.put_back(pl_module)
            self.save(trainer, improved=False)
        stopped.step = step

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say of trainer and callbacks what was so before the step that is undone."""
        if self._undoing:
            self._boundary.describe_in(checkpoint)

    def save(self, trainer: Trainer, improved: bool) -> None:
        """Save the whole state as the last and, if it improved, as the best.

        Raises:
            InbatchError: if it cannot be written; the previous checkpoint is kept.
        """
        for logger in trainer.loggers:
            logger.save()  # a resumed run takes for granted that the numbers up to its checkpoint are there
        # The best comes first: a last that calls itself the best must find it there when it is resumed.
        written = self.best if improved else self.last
        with doing(f"saving {written.name}"):
            trainer.save_checkpoint(written)
        on_rank_zero(lambda: self.files.raise_failure(written))
        if improved and trainer.is_global_zero:
            replace_by_link(written, self.last)
        self.saved_step = trainer.global_step

    def _save_what_was_made_up_for(self, trainer: Trainer) -> None:
        if self._evaluated is None or self.evaluation.done == self._evaluated:
            return
        self._evaluated = None
        with self.signals.held():
            self._undoing = True
            self.save(trainer, self.evaluation.best_step == trainer.global_step)
            self._undoing = False


def resumable(folder: Path) -> Path | None:
    """Return the checkpoint to resume from: the last, or the best if the last is damaged; None if there is none.

    Raises:
        InbatchError: if all that there are damaged.

    Example:
        >>> folder = Path("checkpoints to resume from")
        >>> folder.mkdir(exist_ok=True)
        >>> resumable(folder) is None
        True
        >>> WholeFiles().save_checkpoint({"global_step": 200}, folder / "last.ckpt")
        >>> resumable(folder).name
        'last.ckpt'
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
    """Check a checkpoint's sums, which torch writes and never looks at; a file cut short has not even a table of contents.

    Example:
        >>> torch.save({"global_step": 200}, "whole.ckpt")
        >>> _ = Path("cut.ckpt").write_bytes(Path("whole.ckpt").read_bytes()[:-50])
        >>> is_whole("whole.ckpt"), is_whole("cut.ckpt")
        (True, False)
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def step_of(path: Path) -> int:
    """Return the optimizer step that a checkpoint holds.

    Example:
        >>> torch.save({"global_step": 200, "state_dict": {"weight": torch.ones(3)}}, "weights.ckpt")
        >>> step_of(Path("weights.ckpt"))
        200
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)[
        "global_step"
    ]  # maps the tensors, reads none
