"""The state between two optimizer steps, as it was before the step that is being done."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from inbatch.losses.base import Objective


class Boundary:
    """Note what a step changes before its optimizer's step, so that a step that is cut short can be undone.

    Weights, optimizer and schedule change at its end only. Before it change: buffers, such as statistics of batch norm and queues; averages
    that follow the encoder; what the module, the trainer and its callbacks count. The numbers of a step are logged after it.

    Example:
        >>> from types import SimpleNamespace
        >>> norm = nn.BatchNorm1d(1)
        >>> norm.batches_seen = norm.samples_seen = 0
        >>> trainer = SimpleNamespace(callbacks=[], current_epoch=0, fit_loop=SimpleNamespace(state_dict=dict))
        >>> boundary = Boundary()
        >>> boundary.take(trainer, norm)
        >>> _ = norm(torch.tensor([[2.0], [4.0]]))  # a step begins
        >>> round(norm.running_mean.item(), 3)
        0.3
        >>> boundary.put_back(norm)
        >>> norm.running_mean.item()
        0.0
    """

    def __init__(self) -> None:
        self._places: list[tuple[dict[str, Any], str]] | None = None
        self._kept: list[Tensor] = []
        self._counts = (0, 0)
        self._noted: dict[str, Any] = {}

    def take(self, trainer: Trainer, module: Any) -> None:
        """Note the state; call where a checkpoint might be saved."""
        if self._places is None:
            self._places = list(_moving(module))
            self._kept = [torch.empty_like(tensors[name]) for tensors, name in self._places]
        with torch.no_grad():
            for kept, (tensors, name) in zip(self._kept, self._places):
                kept.copy_(tensors[name])
        self._counts = (module.batches_seen, module.samples_seen)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        states = {callback.state_key: state for callback in callbacks if (state := callback.state_dict())}
        self._noted = {
            "epoch": trainer.current_epoch,
            "fit_loop": trainer.fit_loop.state_dict(),
            "callbacks": copy.deepcopy(states),
        }

    def adopt(self, checkpoint: dict[str, Any]) -> None:
        """Take over where a checkpoint that is being resumed says that the trainer was."""
        self._noted = {"epoch": checkpoint["epoch"], "fit_loop": checkpoint["loops"]["fit_loop"]}

    def put_back(self, module: Any) -> None:
        """Undo in the module what has changed since."""
        with torch.no_grad():
            for kept, (tensors, name) in zip(self._kept, self._places or []):
                tensors[name].copy_(kept)
        module.batches_seen, module.samples_seen = self._counts

    def describe_in(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint say of trainer and callbacks what was noted."""
        checkpoint["epoch"] = self._noted["epoch"]
        checkpoint["loops"]["fit_loop"] = self._noted["fit_loop"]
        checkpoint["callbacks"] = self._noted.get("callbacks", checkpoint["callbacks"])


def _moving(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    """Iterate over the tensors of a checkpoint that change without an optimizer, as places in the dictionaries that hold them."""
    for part in module.modules():
        names = (name for name in part._buffers if name not in part._non_persistent_buffers_set)
        yield from ((part._buffers, name) for name in names if part._buffers[name] is not None)
        if isinstance(part, Objective) and part.moves_frozen:
            for inner in part.modules():
                frozen = (n for n, p in inner._parameters.items() if p is not None and not p.requires_grad)
                yield from ((inner._parameters, name) for name in frozen)
