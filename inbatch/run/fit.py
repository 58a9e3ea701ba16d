"""``inbatch fit``: train from YAML files and options; the same command again resumes, or reports what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from inbatch.activity import doing, quiet
from inbatch.allocator import keep_freed_memory
from inbatch.callbacks.accumulation import HeldAccumulation
from inbatch.callbacks.averages import keep_beside, take_averages
from inbatch.callbacks.checkpoint import Checkpoints, WholeFiles, resumable, step_of
from inbatch.callbacks.checks import Checks
from inbatch.callbacks.evaluation import Evaluation
from inbatch.callbacks.events import Events
from inbatch.callbacks.first_screen import FirstScreen
from inbatch.callbacks.max_time import MaxTime
from inbatch.callbacks.metrics_file import MetricsFile
from inbatch.callbacks.precision import AgreedPrecision
from inbatch.callbacks.progress import Progress
from inbatch.callbacks.ranks import leave, on_rank_zero
from inbatch.callbacks.signals import OutOfTime, Signals, Stopped, stop_outside_of_training
from inbatch.errors import InbatchError, UsageError, own_error
from inbatch.run.changed_data import describe_data, note_on_changed_data, refuse_changed_data
from inbatch.run.config import locate_configs
from inbatch.run.finish import describe_result, finish
from inbatch.run.lightning_words import silence_lightning
from inbatch.run.options import FitCLI
from inbatch.run.provenance import provenance
from inbatch.run.registry import asks_for_list, list_objectives
from inbatch.run.remedies import said_as_typed
from inbatch.run.trainer_options import as_list
from inbatch.run_folder import RunFolder

PRINT_CONFIG = "--print_config"
# Rank 0 tells the ranks that it starts which folder it chose. Its process id goes with it: whatever else inherits the variable,
# such as the ranks of a later run, must not take it for its own.
CHOSEN_FOLDER = "INBATCH_CHOSEN_FOLDER"


def main(arguments: Sequence[str]) -> int:
    """Run ``inbatch fit`` and return its exit code; see `inbatch.cli`.

    Example:
        >>> main(["--model.objective=InfoNCE", "--trainer.max_step=200"])
        Traceback (most recent call last):
        inbatch.errors.UsageError: there is no option --trainer.max_step. Did you mean trainer.max_steps?
    """
    # Before any process is forked or started; what the user has set stays.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    silence_lightning()
    if asks_for_list(arguments):
        print(list_objectives())
        return 0
    located, name = locate_configs(arguments)
    with doing("reading the configuration"):
        cli = FitCLI([word for word in located if word != PRINT_CONFIG])
        config = yaml.safe_load(cli.dump())
    if PRINT_CONFIG in located:
        print(cli.dump(), end="")
        return 0
    folder = _choose_folder(cli, config, name or "run")
    if rank_zero_only.rank == 0:
        folder.claim(config)
    if (result := folder.result()) is not None:
        if rank_zero_only.rank == 0:
            print(describe_result(folder, result, "finished before"))
            with doing("reading the data"):
                note = note_on_changed_data(folder.recorded("data") or [], cli.config.data.sources)
            if note:
                print(f"  note: {note}")
            print("  nothing was trained now; --fresh=true trains anew, in a folder beside this one")
        return 0
    stop_outside_of_training()
    shown = rank_zero_only.rank == 0 and cli.config.trainer.enable_progress_bar is not False
    try:
        with nullcontext() if shown else quiet(), said_as_typed(cli.config, arguments):
            try:
                train(cli, folder, arguments)
            except Exception as error:
                # Of what stopped the run some library may have made another error.
                stopped = own_error(error)
                if isinstance(stopped, Stopped):
                    raise stopped from None
                raise
    except (Stopped, OutOfTime):
        folder.discard_if_new()
        if rank_zero_only.rank == 0:
            raise
        return 0  # what stopped the run is told once, by rank 0
    except InbatchError as error:
        folder.discard_if_new(keep=error.exit_code not in (2, 3))
        raise
    except MisconfigurationException as error:
        folder.discard_if_new()
        raise UsageError(" ".join(str(error).split())) from error
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InbatchError(f"{type(error).__name__}: {first} ({folder.keep_traceback()})") from error
    except KeyboardInterrupt:  # outside of training, where nothing is lost
        folder.discard_if_new()
        raise
    finally:
        leave()
    return 0


def train(cli: FitCLI, folder: RunFolder, arguments: Sequence[str]) -> None:
    """Build, train from where the folder stands, export, and judge the export.

    Example:
        >>> folder = RunFolder("damaged-run")
        >>> folder.checkpoints.mkdir(parents=True, exist_ok=True)
        >>> _ = (folder.checkpoints / "last.ckpt").write_bytes(b"cut short")
        >>> train(FitCLI, folder, [])  # it goes on where the folder stands, and never anew without a word
        Traceback (most recent call last):
        inbatch.errors.InbatchError: the checkpoint damaged-run/checkpoints/last.ckpt is damaged, and there is no other.
        Remove it, or set --fresh.
    """
    checkpoint = resumable(folder.checkpoints)
    step = None if checkpoint is None else step_of(checkpoint)
    with doing("building the model"):
        cli.build(None if checkpoint is None else folder.recorded("precision"))
    trainer, evaluation = build_trainer(cli, folder, step)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if trainer.is_global_zero:
        with doing("reading the data"):
            data = describe_data(cli.datamodule.tables)
        if checkpoint is not None and not cli.config.accept_changed_data:
            refuse_changed_data(folder.recorded("data") or [], data)
        facts = {
            "seed": cli.model.seed,
            "ranks": trainer.world_size,
            "precision": trainer.precision,
            "data": data,
        }
        folder.record(cli.dump(), provenance("fit", arguments) | facts)
        os.environ[CHOSEN_FOLDER] = f"{os.getpid()} {folder.path}"  # for the ranks that Lightning starts
    try:
        with doing("preparing the training"):
            trainer.fit(cli.model, cli.datamodule, ckpt_path=None if checkpoint is None else str(checkpoint))
    except SystemExit:  # Lightning's answer to a Ctrl-C outside of training
        raise KeyboardInterrupt from None
    take_averages(trainer, cli.model)
    result = on_rank_zero(lambda: finish(trainer, cli.model, cli.datamodule, evaluation, folder))
    if trainer.is_global_zero:
        print(describe_result(folder, result, "finished"))


def build_trainer(cli: FitCLI, folder: RunFolder, step: int | None) -> tuple[Trainer, Evaluation]:
    """Build the trainer with the run's callbacks, loggers and checkpoint files; ``step`` is that of the checkpoint, if any.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.run.options import TRAINER_DEFAULTS, RunOptions
        >>> given = {**TRAINER_DEFAULTS, "accelerator": "cpu", "max_steps": 200, "max_epochs": None, "max_time": None}
        >>> given |= {"callbacks": None, "logger": False, "enable_progress_bar": False}
        >>> options = SimpleNamespace(trainer=given, **vars(RunOptions()))
        >>> cli = SimpleNamespace(config_init=options, precision=SimpleNamespace(reason="as set"))
        >>> trainer, _ = build_trainer(cli, RunFolder("runs/pairs"), step=None)
        >>> [type(callback).__name__ for callback in trainer.callbacks]
        ['AgreedPrecision', 'FirstScreen', 'Checks', 'Signals', 'Evaluation', 'Checkpoints', 'HeldAccumulation']
    """
    options, given = cli.config_init, dict(cli.config_init.trainer)
    files, signals = WholeFiles(), Signals()
    evaluation = Evaluation(
        options.evaluators,
        options.evaluate_every,
        options.evaluate_first,
        options.evaluate_last,
        options.monitor,
        options.mode,
        signals,
    )
    checkpoints = Checkpoints(folder.checkpoints, options.checkpoint_every, files, signals, evaluation)
    screen = [f"run folder  {folder.path}" + ("" if step is None else f", resuming after step {step}")]
    callbacks = [
        *as_list(given.pop("callbacks")),
        AgreedPrecision(),
        FirstScreen(screen, cli.precision.reason),
        Checks(),
        signals,
        evaluation,
        checkpoints,
        *_timer(given, checkpoints),
        HeldAccumulation(),
        *([Progress()] if given["enable_progress_bar"] is not False else []),
    ]
    keep_beside(callbacks)
    logger = given.pop("logger")
    if logger is None or logger is True:
        logger = Events(folder.path, yaml.safe_load(cli.dump()), step)
    loggers = [MetricsFile(folder.metrics, step), *as_list(logger or None)]
    given["plugins"] = [*as_list(given.get("plugins")), files]
    given["default_root_dir"] = given.get("default_root_dir") or str(folder.path)
    try:
        return Trainer(**{**given, "callbacks": callbacks, "logger": loggers}), evaluation
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UsageError(f"the trainer refuses its settings: {' '.join(str(error).split())}") from error


def _timer(given: dict[str, Any], checkpoints: Checkpoints) -> list[MaxTime]:
    """Take ``max_time`` out of the trainer's settings and return what keeps to it."""
    duration = given.pop("max_time")
    if duration is None:
        return []
    is_end = given["max_steps"] == -1 and given["max_epochs"] is None
    if is_end:
        given["max_epochs"] = -1  # what the trainer makes of a time alone
    return [MaxTime(duration, checkpoints, is_end)]


def _choose_folder(cli: FitCLI, config: dict[str, Any], name: str) -> RunFolder:
    run_dir, fresh = cli.config.run_dir, cli.config.fresh
    parent, _, chosen = os.environ.get(CHOSEN_FOLDER, "").partition(" ")
    if rank_zero_only.rank > 0 and parent == str(os.getppid()):
        return RunFolder(chosen)
    if fresh and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError(
            "--fresh cannot be agreed on by processes that start side by side. Set --run_dir to a new folder."
        )
    return RunFolder.choose(config, name, run_dir, fresh)
