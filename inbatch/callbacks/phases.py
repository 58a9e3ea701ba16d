"""Tell the optimizer's step from what comes before it, where memory is measured."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback

from inbatch.callbacks.boundary import Boundary

# Names of the marks in a profile.
FORWARD, UPDATE = "inbatch: forward", "inbatch: update"


class Phases(Callback):
    """Mark in a profile where passes and updates begin; and on a GPU read off the peaks themselves.

    Attributes:
        device: where the steps run; known from the first on.
        peaks: bytes beyond what lay there at the start, before the optimizer's step and in it; of a GPU.

    Example:
        >>> from types import SimpleNamespace
        >>> phases = Phases()
        >>> trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
        >>> with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        ...     phases.on_train_batch_start(trainer)
        ...     phases.on_before_optimizer_step(trainer)
        >>> [event.name for event in profile.events()]
        ['inbatch: forward', 'inbatch: update']
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.peaks = [0, 0]
        self._start: int | None = None
        self._boundary = Boundary()  # a run keeps one, too

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Begin the passes."""
        self._mark(trainer.strategy.root_device, FORWARD, 1)

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        """Begin the update."""
        self._mark(trainer.strategy.root_device, UPDATE, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Keep what `Checkpoints` keeps of the state between two steps."""
        self._boundary.take(trainer, pl_module)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """End the last update."""
        self._mark(trainer.strategy.root_device, FORWARD, 1)

    def _mark(self, device: torch.device, name: str, over: int) -> None:
        self.device = device
        with torch.profiler.record_function(name):
            pass
        if device.type == "cuda":
            if self._start is None:
                self._start = torch.cuda.memory_allocated(device)
            else:
                self.peaks[over] = max(self.peaks[over], torch.cuda.max_memory_allocated(device) - self._start)
            torch.cuda.reset_peak_memory_stats(device)
