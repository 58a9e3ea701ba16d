"""A frozen network: nothing of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.modifier import Modifier

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone


@dataclass(frozen=True)
class Frozen(Modifier):
    """Train nothing of a network; its dropout stays as the mode says, for frozen is not the same as eval.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(frozen=True)
        >>> any(p.requires_grad for p in backbone.parameters()), backbone.training
        (False, True)
    """

    freezes: ClassVar[bool] = True

    def refuses(self, others: Sequence[Modifier]) -> str | None:
        """See `Modifier.refuses`."""
        if any(isinstance(other, Lora) for other in others):
            return "expected frozen or lora, got both: LoRA freezes the network itself. Drop one of the two."
        return None

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        backbone.network.requires_grad_(False)
