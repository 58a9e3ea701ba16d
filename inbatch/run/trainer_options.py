"""What of Lightning's trainer a run cannot do as Lightning documents it, refused by name before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inbatch.errors import UsageError
from inbatch.run.parser_errors import resolve

_NO_VALIDATION = (
    "evaluators judge while training, and a validation loop of the trainer's there is not",
    "Leave it out, and set evaluators and evaluate_every",
)
# option: (values that change nothing, what is so, what to do)
_OPTIONS: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "fast_dev_run": (
        (False,),
        "it would leave a run without numbers and checkpoints that counts as finished",
        "Leave it out, and set trainer.max_steps to a few, model.warmup_steps to 0, and run_dir",
    ),
    "overfit_batches": (
        (0,),
        "it takes the rows in the file's order, always the same ones",
        "Leave it out, and set data.sources to a small file",
    ),
    "barebones": ((False,), "a run keeps its numbers and checkpoints", "Leave it out"),
    "enable_checkpointing": (
        (None, False),
        "checkpoints are the run's own, so that it resumes exactly",
        "Leave it out, and set checkpoint_every, and monitor for the best",
    ),
    "model_registry": ((None,), "nothing is uploaded while training", "Leave it out"),
    "limit_val_batches": ((None, 0, 1.0), *_NO_VALIDATION),
    "limit_test_batches": ((None, 0, 1.0), *_NO_VALIDATION),
    "limit_predict_batches": ((None, 0, 1.0), *_NO_VALIDATION),
    "val_check_interval": ((None, 1.0), *_NO_VALIDATION),
    "check_val_every_n_epoch": ((None, 1), *_NO_VALIDATION),
    "num_sanity_val_steps": ((None, 0), *_NO_VALIDATION),
}
_AT_LEAST_ONE = ("accumulate_grad_batches", "log_every_n_steps")
_SEEDS = range(2**32)  # what NumPy takes
# class of Lightning: (what is so, what to do)
_CALLBACKS: dict[str, tuple[str, str]] = {
    "Checkpoint": (
        "checkpoints are the run's own, so that it resumes exactly",
        "Leave it out, and set checkpoint_every, and monitor for the best",
    ),
    "StochasticWeightAveraging": (
        "it replaces the schedule of the learning rate, and a run that is given again would lose the average",
        "Use lightning.pytorch.callbacks.WeightAveraging, or EMAWeightAveraging, with use_buffers: false",
    ),
    "Timer": ("the time of a run is the trainer's option", "Leave it out, and set trainer.max_time"),
    "BatchSizeFinder": (
        "the batch decides the negatives, so no other one may be put in its place",
        "Leave it out, set data.batch_size to what is wanted and model.chunk_tokens to what memory allows (inbatch doctor with the options of the run says)",
    ),
    "LearningRateFinder": ("it trains before the first step", "Leave it out, and set model.optimizer.init_args.lr"),
    "BaseFinetuning": (
        "it adds parameters to an optimizer that a resumed run could not rebuild",
        "Leave it out, and set backbone.frozen",
    ),
    "ModelPruning": ("checkpoints and exports hold no masks", "Leave it out"),
}
_PROCESSES = ("spawn", "fork", "notebook")


def check_trainer(config: Any) -> None:
    """Refuse settings of a parsed configuration that would be without effect, or have another one than Lightning documents.

    Args:
        config: with ``trainer`` and ``seed_everything``.

    Raises:
        UsageError: naming the setting and what to set in its place.

    Example:
        >>> from types import SimpleNamespace
        >>> check_trainer(SimpleNamespace(seed_everything=-1, trainer=SimpleNamespace(max_steps=200)))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected seed_everything to lie in [0, 4294967295]; got -1. Set seed_everything.
        >>> check_trainer(SimpleNamespace(seed_everything=0, trainer=SimpleNamespace(fast_dev_run=True)))
        Traceback (most recent call last):
        inbatch.errors.UsageError: trainer.fast_dev_run=True is not available here: it would leave a run without numbers and checkpoints
        that counts as finished. Leave it out, and set trainer.max_steps to a few, model.warmup_steps to 0, and run_dir.
    """
    seed, trainer = config.seed_everything, config.trainer
    if not isinstance(seed, bool) and seed not in _SEEDS:
        raise UsageError(f"expected seed_everything to lie in [0, {_SEEDS[-1]}]; got {seed}. Set seed_everything.")
    for option, (harmless, reason, remedy) in _OPTIONS.items():
        value = getattr(trainer, option)
        if value not in harmless:
            raise UsageError(f"trainer.{option}={value} is not available here: {reason}. {remedy}.")
    for option in _AT_LEAST_ONE:
        if (number := getattr(trainer, option)) is not None and number < 1:
            raise UsageError(f"expected trainer.{option} >= 1; got {number}. Set trainer.{option}.")
    if trainer.limit_train_batches == 0:
        raise UsageError(
            "trainer.limit_train_batches=0 would train nothing. Leave it out; trainer.max_steps=0 exports what was built."
        )
    if trainer.gradient_clip_algorithm is not None and trainer.gradient_clip_val is None:
        raise UsageError(
            f"trainer.gradient_clip_algorithm={trainer.gradient_clip_algorithm} clips nothing without a value. Set "
            "trainer.gradient_clip_val."
        )
    _check_time(trainer.max_time)
    _check_strategy(trainer.strategy)
    for given in as_list(trainer.callbacks):
        _check_callback(given, trainer.accumulate_grad_batches)


def _check_time(duration: Any) -> None:
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Timer

    try:
        Timer(duration)
    except (TypeError, MisconfigurationException):
        raise UsageError(
            f"expected trainer.max_time as DD:HH:MM:SS, or as {{hours: 2}}; got {duration}. Set trainer.max_time."
        ) from None


def _check_strategy(strategy: Any) -> None:
    method = strategy if isinstance(strategy, str) else _settings(strategy).get("start_method")
    name = next((name for name in _PROCESSES if name in str(method)), None)
    if name is not None:
        raise UsageError(
            f"trainer.strategy={method} is not available here: the process that starts the others has nothing to export at the end. "
            "Set trainer.strategy=ddp."
        )


def _check_callback(given: Any, accumulation: int) -> None:
    path, settings = getattr(given, "class_path", None), _settings(given)
    found = resolve(path) if isinstance(path, str) else type(given)
    if not isinstance(found, type):
        return
    kinds = {base.__name__ for base in found.__mro__ if base.__module__.startswith("lightning.pytorch.")}
    for refused, (reason, remedy) in _CALLBACKS.items():
        if refused in kinds:
            raise UsageError(f"the callback {found.__name__} is not available here: {reason}. {remedy}.")
    if "GradientAccumulationScheduler" in kinds and accumulation != 1:
        raise UsageError(
            f"the callback {found.__name__} decides what is accumulated; trainer.accumulate_grad_batches={accumulation} does, too. "
            "Leave one of them out."
        )
    if "WeightAveraging" in kinds and settings.get("use_buffers", True):
        raise UsageError(
            f"the callback {found.__name__} would average whole numbers, such as positions, and cut them off. Set use_buffers to false "
            "in its init_args."
        )
    if "WeightAveraging" in kinds and settings.get("update_starting_at_epoch") is not None:
        raise UsageError(
            f"the callback {found.__name__} would average at the end of an epoch, which a run that is resumed there leaves out. Set "
            "update_starting_at_step in its init_args, in place of update_starting_at_epoch."
        )
    if "EarlyStopping" in kinds and settings.get("monitor") != "train/loss":
        raise UsageError(
            f"expected the callback {found.__name__} to monitor train/loss, the only number that callbacks see; got "
            f"{settings.get('monitor')}. Set its monitor; to export the best step of an evaluator set monitor of the run."
        )


def _settings(given: Any) -> Mapping[str, Any]:
    settings = getattr(given, "init_args", None)
    return {} if settings is None else settings if isinstance(settings, Mapping) else vars(settings)


def as_list(value: Any) -> list[Any]:
    """Return what is set as a list: nothing, one thing, or several.

    Example:
        >>> as_list(None), as_list("csv"), as_list(("csv", "tensorboard"))
        ([], ['csv'], ['csv', 'tensorboard'])
    """
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
