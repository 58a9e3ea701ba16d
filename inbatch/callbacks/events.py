"""The logger of TensorBoard events, which also says what the run was set to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from inbatch.run_folder import identity


class Events(TensorBoardLogger):
    """Write numbers, and before the first of them the settings that decide the result, as hyper-parameters by dotted names.

    TensorBoard finds the metrics to these by itself: every number of the runs that it is shown.

    Args:
        folder: of the run; the events lie in ``tensorboard/`` in it.
        config: the run's configuration.
        last_step: of the checkpoint that the run resumes from; what a dead run wrote after it is taken back. None takes back all.

    Example:
        >>> events = Events("logged", {"trainer": {"max_steps": 200, "devices": 1}, "data": {"batch_size": 64}})
        >>> events.log_metrics({"train/loss": 0.5}, step=10)
        >>> events.finalize("success")
        >>> print(Path("logged/tensorboard/hparams.yaml").read_text(), end="")  # without the devices, which decide nothing
        data.batch_size: 64
        trainer.max_steps: 200
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any], last_step: int | None = None) -> None:
        beyond = 0 if last_step is None else last_step + 1
        super().__init__(folder, "", "tensorboard", default_hp_metric=False, purge_step=beyond)
        self._settings = {key: _plain(value) for key, value in identity(config).items() if value is not None}
        self._told = False
        self.log_hyperparams(self._settings)  # of Lightning's: only its hparams.yaml, as there are no metrics yet

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers; the settings first."""
        if not self._told:
            self.experiment._get_file_writer().add_summary(hparams_pb(self._settings))
            self._told = True
        super().log_metrics(metrics, step)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
