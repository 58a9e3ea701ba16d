"""Evaluate while training, on rank 0 for all ranks, and know which step was the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from inbatch.activity import doing
from inbatch.callbacks.averages import averaged
from inbatch.callbacks.ranks import on_rank_zero
from inbatch.callbacks.signals import Signals
from inbatch.errors import UsageError
from inbatch.models.encoder import Encoder
from inbatch.spelling import suggest

Evaluator = Callable[[Encoder], dict[str, float]]


class Evaluation(Callback):
    """Run evaluators on the encoder as it is at test; their numbers are logged as ``val/<name>/<tag>``.

    Args:
        evaluators: by name; each takes the encoder and returns numbers by tag. One that has a method ``check`` is asked with it,
            before training, whether it can take the encoder.
        every: steps between evaluations; None never.
        first: evaluate before training too.
        last: evaluate the last step too where it is no multiple of ``every``; without it such a step cannot be the best, unless nothing
            was evaluated at all.
        monitor: the tag, such as ``val/sts/STS-B-dev``, that decides which step is the best.
        mode: whether more or less of it is better.
        signals: may cut an evaluation short; it is then done again when the run resumes, before its next step.

    Raises:
        UsageError: if the settings do not fit together; before training, if an evaluator cannot take the encoder; and after the first
            evaluation, if no number has the monitored tag.

    Example:
        >>> from contextlib import nullcontext
        >>> from types import SimpleNamespace
        >>> evaluation = Evaluation({"sts": lambda encoder: {"STS-B-dev": 0.81}}, every=250, monitor="val/sts/STS-B-dev")
        >>> trainer = SimpleNamespace(global_step=250, loggers=[], is_global_zero=True)
        >>> evaluation.evaluate(trainer, SimpleNamespace(at_dev=nullcontext))
        step 250  val/sts/STS-B-dev 0.8100
        >>> evaluation.best_step, evaluation.best_score
        (250, 0.81)
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        every: int | None = None,
        first: bool = False,
        last: bool = True,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        signals: Signals | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise UsageError(f"expected evaluate_every >= 1 or null; got {every}.")
        if (every or first) and not evaluators:
            setting, off = ("evaluate_every", "null") if every else ("evaluate_first", "false")
            raise UsageError(
                f"expected evaluators, as {setting} is set; got none. Set evaluators, or set {setting} to {off}."
            )
        if monitor is not None and (
            every is None or monitor.split("/")[:2] not in [["val", name] for name in evaluators]
        ):
            names = ", ".join(f"val/{name}/..." for name in evaluators) or "none"
            raise UsageError(
                f"expected monitor to be a tag of an evaluator ({names}) and evaluate_every to be set; got monitor={monitor!r} "
                f"and evaluate_every={every}."
            )
        self.evaluators = evaluators
        self.every = every
        self.first = first
        self.last = last
        self.monitor = monitor
        self.mode = mode
        self.best_score = math.nan
        self.best_step = -1
        self.signals = signals or Signals()
        self.done = -1  # the last step that was evaluated

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best_score": self.best_score, "best_step": self.best_step, "done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        self.done = state_dict["done"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the evaluators whether they can take the encoder."""
        module: Any = pl_module
        with module.at_dev() as encoder:
            on_rank_zero(lambda: self._check(encoder))

    def _check(self, encoder: Encoder) -> None:
        for name, evaluator in self.evaluators.items():
            try:
                getattr(evaluator, "check", lambda encoder: None)(encoder)
            except UsageError as error:
                raise UsageError(f"the evaluator evaluators.{name} cannot take this encoder: {error}") from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate what the run that is resumed left undone."""
        self._evaluate_if_due(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Evaluate before the first step if asked to."""
        if self.first and trainer.global_step == 0 and self.done < 0:
            self.evaluate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate where it is due."""
        self._evaluate_if_due(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last step of training that ended by epochs, and say where no step was judged."""
        if self.every and self.last and self.done != trainer.global_step:
            self.evaluate(trainer, pl_module)
        if self.monitor is not None and self.done < 1 and trainer.global_step > 0:
            rank_zero_warn(
                f"{self.monitor} was never measured, as {trainer.global_step} steps are fewer than evaluate_every={self.every} and "
                "evaluate_last is false: the last step is exported. Set evaluate_last to true, or lower evaluate_every."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last step if the run that is resumed left only that undone, so that there was nothing to train."""
        if self._is_due(trainer):
            pl_module.to(trainer.strategy.root_device)  # the trainer has moved it to the CPU
            self.evaluate(trainer, pl_module)

    def _evaluate_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_due(trainer):
            self.evaluate(trainer, pl_module)

    def _is_due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        if not self.every or step in (0, self.done):
            return False
        return step % self.every == 0 or (self.last and step == trainer.max_steps)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run all evaluators, log their numbers and note whether this step is the best."""
        with self.signals.held():
            self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        module: Any = pl_module

        def numbers_of(encoder: Encoder) -> dict[str, float]:
            with self.signals.acting(), doing(f"evaluating after step {step}"):
                return run_evaluators(self.evaluators, encoder, "val")

        with averaged(trainer, module), module.at_dev() as encoder:
            numbers = on_rank_zero(lambda: numbers_of(encoder))
        self.done = step
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step)
        if trainer.is_global_zero:
            print(f"step {step}  {in_a_line(numbers, self.monitor)}", flush=True)
        if self.monitor is None:
            return
        if self.monitor not in numbers:
            near = suggest(self.monitor, numbers) or "."
            raise UsageError(
                f"expected monitor to be one of {', '.join(numbers)}; got {self.monitor!r}{near} Set monitor."
            )
        score = numbers[self.monitor]
        if self.best_step < 0:
            better = not math.isnan(score)
        else:
            better = score > self.best_score if self.mode == "max" else score < self.best_score
        if better and step > 0:  # the untrained model has no checkpoint, so it cannot be the best
            self.best_score, self.best_step = score, step


def in_a_line(numbers: Mapping[str, float], monitor: str | None = None) -> str:
    """Write numbers by tag for the screen: each evaluator's name once, and of what it divides further only the monitored number.

    Example:
        >>> in_a_line({"val/sts/STS12": 0.7, "val/sts/STS12/news": 0.6, "val/sts/avg": 0.75, "val/qa/ndcg@10": 0.4})
        'val/sts/STS12 0.7000  avg 0.7500  val/qa/ndcg@10 0.4000'
    """
    words, last = [], ""
    for tag, value in numbers.items():
        evaluator, name = "/".join(tag.split("/")[:2]), "/".join(tag.split("/")[2:])
        if "/" not in name or tag == monitor:
            words.append(f"{name if evaluator == last else tag} {value:.4f}")
            last = evaluator
    return "  ".join(words)


def run_evaluators(evaluators: Mapping[str, Evaluator], encoder: Encoder, prefix: str) -> dict[str, float]:
    """Return the numbers of all evaluators by ``<prefix>/<name>/<tag>``.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> def size(encoder):
        ...     return {"dimensions": encoder.dim}
        >>> run_evaluators({"size": size}, Encoder(TinyRandom(hidden_size=16)), "val")
        {'val/size/dimensions': 16.0}
    """
    return {
        f"{prefix}/{name}/{tag}": float(value)
        for name, evaluator in evaluators.items()
        for tag, value in evaluator(encoder).items()
    }
