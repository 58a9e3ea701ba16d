"""Gradient checkpointing of a network's layers: memory for time, and no number changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inbatch.models import layers
from inbatch.models.adapters.modifier import Modifier

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone


@dataclass(frozen=True)
class GradientCheckpointing(Modifier):
    """Recompute each layer in the backward pass, by non-reentrant checkpoints.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> layers.checkpoints(TinyRandom(gradient_checkpointing=True).network)
        True
    """

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        layers.checkpoint_layers(backbone.network)
