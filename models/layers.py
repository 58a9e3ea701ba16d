"""The layers of a network: which they are, and whether they are computed again in the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checkpoint_layers(network: PreTrainedModel) -> None:
    """Recompute each layer in the backward pass, by non-reentrant checkpoints.

    transformers also makes the embeddings' output require a gradient; without it frozen embeddings below adapters would leave
    the first checkpointed layer nothing to differentiate.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> network = TinyRandom().network
        >>> checkpoint_layers(network)
        >>> checkpoints(network)
        True
    """
    # The older name is deprecated from transformers 5.23 on, the newer one is not there in 5.17.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def checkpoints(network: PreTrainedModel) -> bool:
    """Say whether a network recomputes its layers in the backward pass.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> checkpoints(TinyRandom(gradient_checkpointing=True).network)
        True
    """
    # As for `checkpoint_layers`, two names.
    found: Any = getattr(network, "is_activation_checkpointing", None)
    return bool(network.is_gradient_checkpointing if found is None else found)


def layers_of(network: PreTrainedModel) -> nn.ModuleList | None:
    """Return the layers of a network, in their order; None where they do not stand in one list.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> len(layers_of(TinyRandom("llama", num_layers=3).network))
        3
    """
    total = network.config.get_text_config().num_hidden_layers
    lists = (m for m in network.modules() if isinstance(m, nn.ModuleList) and len(m) == total)
    return next(lists, None)
