"""A modifier: one change of a backbone, and all that the backbone, an export and the other modifiers must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone
    from inbatch.views import TokenBatch


@dataclass(frozen=True)
class Modifier:
    """Base class of what changes a backbone: adapters, prefixes, learned tokens, masks, and what is trained at all.

    A modifier holds settings only, so that one may serve several backbones; what it makes (weights, hooks) lies in the backbone.

    Attributes:
        freezes: whether it leaves the network's own weights as they are.
        gives_positions: whether the network must be told the position of each token, as it cannot count them itself any more.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> [type(modifier).__name__ for modifier in TinyRandom("llama", frozen=True, learned_tokens=2).modifiers]
        ['LearnedTokens', 'Frozen']
    """

    freezes: ClassVar[bool] = False
    gives_positions: ClassVar[bool] = False

    @property
    def positions(self) -> int:
        """Positions that it takes in front of a text."""
        return 0

    def refuses(self, others: Sequence[Modifier]) -> str | None:
        """Return why it cannot stand beside other modifiers, in one sentence that says what to drop; None if it can."""
        return None

    def attach(self, backbone: Backbone) -> None:
        """Change a backbone in place; those before it in the list are attached already."""

    def inputs(self, backbone: Backbone, tokens: TokenBatch, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what the network is called with for some tokens, given what it would be called with."""
        return inputs

    def save(self, backbone: Backbone, folder: Path) -> None:
        """Write to an export's folder what neither the network's nor the tokenizer's own files hold."""

    def load(self, backbone: Backbone, folder: Path) -> None:
        """Read that again, into a backbone that it is attached to.

        Raises:
            MissingError: if it is not there.
        """


def refuse_conflicts(modifiers: Sequence[Modifier]) -> None:
    """Refuse modifiers that exclude each other.

    Raises:
        UsageError: with the first reason that one of them has.

    Example:
        >>> from inbatch.models.adapters.frozen import Frozen
        >>> from inbatch.models.adapters.lora import Lora
        >>> refuse_conflicts([Frozen(), Lora()])
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected frozen or lora, got both: LoRA freezes the network itself. Drop one of the two.
    """
    for modifier in modifiers:
        reason = modifier.refuses([other for other in modifiers if other is not modifier])
        if reason is not None:
            raise UsageError(reason)


def save_module(module: Any, path: Path) -> None:
    """Write the weights of a part; `inbatch.models.record.load_module` reads them.

    Example:
        >>> import tempfile, torch
        >>> from inbatch.models.record import load_module
        >>> part, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_module(part, Path(folder) / "part.safetensors")
        ...     load_module(other, Path(folder) / "part.safetensors")
        >>> torch.equal(part.weight, other.weight)
        True
    """
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
