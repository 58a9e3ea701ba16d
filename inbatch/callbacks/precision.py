"""The values of a precision, and one of them for all ranks: what rank 0's machine takes for `auto`."""

from __future__ import annotations

from typing import Any, Literal, get_type_hints

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from inbatch.callbacks.ranks import on_rank_zero
from inbatch.errors import UsageError

# Values of trainer.precision: Lightning's, and ours.
PRECISIONS = get_type_hints(Trainer.__init__)["precision"] | Literal["auto"]


class AgreedPrecision(Callback):
    """Take rank 0's precision, where this rank's machine would have another; before anything is moved or wrapped.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from unittest.mock import patch
        >>> strategy = SimpleNamespace(precision_plugin=Precision(), root_device=torch.device("cpu"))
        >>> with patch("inbatch.callbacks.precision.on_rank_zero", return_value="bf16-mixed"):  # what rank 0 says
        ...     AgreedPrecision().setup(SimpleNamespace(strategy=strategy), None, "fit")
        >>> strategy.precision_plugin.precision  # it was 32-true
        'bf16-mixed'
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask rank 0, as soon ranks know each other.

        Raises:
            UsageError: if the strategy has a precision of its own kind, which cannot be exchanged.
        """
        strategy: Any = trainer.strategy
        agreed = on_rank_zero(lambda: strategy.precision_plugin.precision)
        if agreed == strategy.precision_plugin.precision:
            return
        if type(strategy.precision_plugin) not in (Precision, MixedPrecision):
            raise UsageError(
                f"expected one precision on all ranks; rank 0 takes {agreed} here and another rank "
                f"{strategy.precision_plugin.precision}. Set --trainer.precision."
            )
        mixed = agreed == "bf16-mixed"
        strategy.precision_plugin = MixedPrecision(agreed, strategy.root_device.type) if mixed else Precision()
