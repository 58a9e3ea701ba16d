"""The options of ``inbatch fit``: how they are parsed, and the objects that are built from them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from inbatch.callbacks.precision import PRECISIONS
from inbatch.class_names import shortened
from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.errors import MissingError, UsageError
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.precision import resolve
from inbatch.run.config import keep_path, read_configs
from inbatch.run.nested_options import keep_values, refuse_nulls
from inbatch.run.parser_errors import explain, in_a_run
from inbatch.run.registry import objectives, wrong_objective
from inbatch.run.remedies import said_as_typed
from inbatch.run.trainer_options import check_trainer

DESCRIPTION = """Train a model. Later --config files and options win over earlier ones. Every option is a parameter of a class:
--model.objective.init_args.temperature=0.02 is the objective's temperature. The same command again resumes."""
EXAMPLE = """example: inbatch fit --config own/pairs.yaml --data.sources=pairs.csv --trainer.max_steps=200
`inbatch recipes` lists what --config takes; --model.objective.help lists the objectives."""
TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the data module slices each global batch itself
    "enable_checkpointing": False,  # Lightning's own, in favour of `Checkpoints`
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}


@dataclasses.dataclass
class RunOptions:
    """How a run is kept and judged.

    Args:
        run_dir: folder of the run; by default runs/<name of the last config>-<8 hex digits of the configuration>.
        fresh: start anew in a folder beside it.
        accept_changed_data: resume although the data are not those that the run trained on so far.
        checkpoint_every: optimizer steps between checkpoints; there is one at the end as well.
        evaluators: by name; each takes the encoder and returns numbers. They also judge the exported model at the end.
        evaluate_every: optimizer steps between evaluations; null never.
        evaluate_first: evaluate before the first step too.
        evaluate_last: evaluate the last step too where it is no multiple of evaluate_every, as the releases of papers do not.
        monitor: the number that decides which step is exported, such as val/sts/STS-B-dev; null exports the last.
        mode: whether more or less of it is better.

    Example:
        >>> options = RunOptions(evaluate_every=250, monitor="val/sts/STS-B-dev")
        >>> options.mode, options.checkpoint_every
        ('max', 1000)
    """

    run_dir: str | None = None
    fresh: bool = False
    accept_changed_data: bool = False
    checkpoint_every: int = 1000
    evaluators: dict[str, Callable[[Encoder], dict[str, float]]] = dataclasses.field(default_factory=dict)
    evaluate_every: int | None = None
    evaluate_first: bool = False
    evaluate_last: bool = True
    monitor: str | None = None
    mode: Literal["max", "min"] = "max"


class FitCLI(LightningCLI):
    """The parser of ``inbatch fit``: trainer, model and data by their signatures, and `RunOptions` at the top.

    Construction parses and seeds; `build` makes the objects.

    Args:
        arguments: of the command line, configurations located.

    Raises:
        UsageError: if an option is unknown, or a value is not what its signature says.

    Example:
        >>> from unittest.mock import patch
        >>> words = ["--model.encoder=Encoder", "--model.encoder.backbone=TinyRandom", "--model.objective=InfoNCE"]
        >>> words += ["--model.optimizer=torch.optim.AdamW", "--data.sources=pairs.csv", "--data.batch_size=64"]
        >>> with patch.dict("os.environ"):  # Lightning notes the seed there
        ...     cli = FitCLI([*words, "--trainer.max_steps=200", "--seed_everything=5"])
        >>> cli.config.model.seed, cli.config.data.seed, cli.config.model.objective.init_args.temperature
        (5, 5, 0.05)
    """

    config_init: Any  # built by `build`: one attribute an option

    def __init__(self, arguments: Sequence[str]) -> None:
        objectives()  # so that the parser knows them: --model.objective=InfoNCE
        super().__init__(
            EmbeddingModule,
            EmbeddingDataModule,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={
                "prog": "inbatch fit",
                "description": DESCRIPTION,
                "epilog": EXAMPLE,
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=keep_values(keep_path(read_configs(arguments))),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the three signatures; unlike Lightning's own this never takes a text that names a file for a configuration."""
        parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False, skip={"precision"})
        parser.add_argument(
            "--trainer.precision", type=PRECISIONS, help="auto takes what is fast on this machine; null is 32-true"
        )
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.add_class_arguments(EmbeddingModule, "model")
        parser.add_class_arguments(EmbeddingDataModule, "data")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `RunOptions`, and one seed for all."""
        parser.add_class_arguments(RunOptions, None)
        for target in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_fixed_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say in one sentence what is wrong."""
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            raise wrong_objective(error) or explain(error, [action.dest for action in parser._actions]) from None
        with said_as_typed(self.config):
            _check(self.config)

    def instantiate_classes(self) -> None:
        """Build nothing yet: the run's folder has its say first."""

    def build(self, recorded: str | None = None) -> None:
        """Make the model, the data module and the evaluators; ``recorded`` is the precision that the run began with."""
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        except (ValueError, MissingError) as error:
            raise in_a_run(error, self.config.evaluators) from None
        self.model, self.datamodule = self.config_init.model, self.config_init.data
        trainer = self.config_init.trainer
        self.precision = resolve(trainer.precision, trainer.accelerator, recorded)
        trainer.precision = self.precision.value

    def dump(self) -> str:
        """Return the resolved configuration as YAML that ``--config`` takes again; classes of this package by their names."""
        resolved = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        return yaml.safe_dump(shortened(resolved), sort_keys=False, allow_unicode=True, width=140)


def _check(config: Any) -> None:
    check_trainer(config)
    refuse_nulls(config)
    trainer = config.trainer
    if trainer.max_steps == -1 and trainer.max_epochs is None and trainer.max_time is None:
        raise UsageError("expected an end of the training; got none. Set trainer.max_steps (or trainer.max_epochs).")
    if config.checkpoint_every < 1:
        raise UsageError(f"expected checkpoint_every >= 1; got {config.checkpoint_every}.")


def _fixed_seed(seed: bool | int) -> int:
    if isinstance(seed, bool):
        raise UsageError(f"expected seed_everything to be a number, so that the run can be repeated; got {seed}.")
    return seed
