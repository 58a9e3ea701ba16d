"""Checkpoints without what is frozen: a LoRA run of a large network saves its adapters, not the network again at each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.fingerprint import alike, samples
from inbatch.losses.base import Objective


@runtime_checkable
class KeepsFrozen(Protocol):
    """A network whose frozen parameters come from its name, if it says so: backbones, decoders, references.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> kept: KeepsFrozen = TinyRandom(frozen=True)
        >>> kept.keeps_frozen
        True
    """

    keeps_frozen: bool


def without_frozen(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without what comes from elsewhere and never changes; empty where there is nothing of that kind.

    That is: frozen parameters inside of a module that says ``keeps_frozen = True``, such as backbones and decoders, unless an objective
    around it says ``moves_frozen = True``, as one does that lets a copy follow the encoder without a gradient.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(frozen=True, learned_tokens=1)
        >>> list(without_frozen(backbone, backbone.state_dict()))
        ['learned_tokens.table']
    """
    frozen = {name for name, _ in _frozen(module)}
    # What packed weights need to be unpacked stands beside them, under their names.
    return {name: t for name, t in state.items() if not _under(name, frozen)} if frozen else {}


def completed(module: nn.Module, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a checkpoint's state with the module's own frozen parameters in the place of those that it leaves out.

    Args:
        module: built as it was when the checkpoint was written; its precision may be another.
        checkpoint: with ``state_dict`` and, where something is left out, `samples` of that in ``inbatch.frozen``.

    Raises:
        UsageError: if the frozen parameters are others than those that the run was trained with.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(frozen=True, learned_tokens=1)
        >>> left = without_frozen(backbone, backbone.state_dict())
        >>> found = completed(backbone, {"state_dict": left, "inbatch": {"frozen": fingerprint(backbone)}})
        >>> found.keys() == dict(backbone.named_parameters()).keys()
        True
    """
    state: dict[str, Tensor] = dict(checkpoint["state_dict"])
    written = checkpoint.get("inbatch", {}).get("frozen")
    if written is None:
        return state
    if not alike(written, fingerprint(module)):
        raise UsageError(
            "expected the frozen weights that this run was trained with; the model that it names has changed since. Bring back the old "
            "weights, or start anew with --fresh."
        )
    return {**{name: tensor.detach() for name, tensor in _frozen(module)}, **state}


def fingerprint(module: nn.Module) -> Tensor:
    """Return `samples` of what a checkpoint leaves out.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> fingerprint(TinyRandom()).numel()
        0
    """
    return samples(tensor for _, tensor in _frozen(module))


def _frozen(module: nn.Module, name: str = "", kept: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    if isinstance(module, Objective) and module.moves_frozen:
        return
    kept = kept or (isinstance(module, KeepsFrozen) and module.keeps_frozen)
    for key, parameter in module.named_parameters(name.rstrip("."), recurse=False, remove_duplicate=False):
        if kept and not parameter.requires_grad:
            yield key, parameter
    for key, child in module.named_children():
        yield from _frozen(child, f"{name}{key}.", kept)


def _under(name: str, frozen: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in frozen for count in range(len(parts), 0, -1))
