"""Checkpoints without what is frozen: a LoRA run of a large network saves its adapters, not the network again at each step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError

# Numbers of each frozen tensor that its fingerprint looks at.
_LOOKED_AT = 64


def without_frozen(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without the module's frozen parameters; empty where nothing is frozen, and the state may stay as it is."""
    frozen = {name for name, _ in _frozen(module)}
    return {name: tensor for name, tensor in state.items() if name not in frozen} if frozen else {}


def completed(module: nn.Module, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a checkpoint's state with the module's own frozen parameters in the place of those that it leaves out.

    Args:
        module: built as it was when the checkpoint was written.
        checkpoint: with ``state_dict`` and, where something is left out, the `fingerprint` of that in ``inbatch.frozen``.

    Raises:
        UsageError: if the frozen parameters are others than those that the run was trained with.
    """
    state: dict[str, Tensor] = dict(checkpoint["state_dict"])
    written = checkpoint.get("inbatch", {}).get("frozen")
    if written is None:
        return state
    if written != fingerprint(module):
        raise UsageError(
            "expected the frozen weights that this run was trained with; the model that it names has changed since. Bring back the old "
            "weights, or start anew with --fresh."
        )
    return {**{name: tensor.detach() for name, tensor in _frozen(module)}, **state}


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Hash names, shapes and some numbers of each frozen parameter: tells one network from another at little cost."""
    digest = hashlib.sha256()
    for name, tensor in _frozen(module):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // _LOOKED_AT)][:_LOOKED_AT]
        digest.update(some.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _frozen(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad)
