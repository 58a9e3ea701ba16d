"""Lightning's words at each start that are on our own first screen, or are not so here."""

from __future__ import annotations

import logging
import warnings


def silence_lightning() -> None:
    """Silence them, for this process.

    Example:
        >>> with warnings.catch_warnings(record=True) as shown:
        ...     silence_lightning()
        ...     warnings.warn("The 'train_dataloader' does not have many workers")
        ...     warnings.warn("The loss is 0")
        >>> [str(warning.message) for warning in shown]
        ['The loss is 0']
        >>> logging.getLogger("lightning.pytorch").isEnabledFor(logging.INFO)
        False
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # who sets a profiler wants to read it
    for text in (
        ".*your dataloader is not resumable",
        ".*does not have many workers",
        ".*number of training batches",
        ".*LeafSpec",
        ".*all_gather_into_tensor",
        ".*in eval mode at the start of training",
        ".*overriding `LightningModule.optimizer_",
    ):
        warnings.filterwarnings("ignore", text)
