"""Dropout rates of a network's configuration, whatever it calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What configurations call their dropout rates, apart from those of classifiers.
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "dropout_rate",
)


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set every dropout rate of a configuration.

    Raises:
        UsageError: if the rate is no probability, or the configuration has none to set.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> config = TinyRandom().config
        >>> set_dropout(config, 0.3)
        >>> config.hidden_dropout_prob
        0.3
    """
    if not 0 <= rate < 1:
        raise UsageError(f"expected dropout in [0, 1); got {rate}")
    names = _dropouts(config)
    if not names:
        raise UsageError(
            f"expected a backbone with dropout to set; {type(config).__name__} has none. Set backbone.dropout to null."
        )
    for name in names:
        setattr(config, name, float(rate))


def drop_nothing(config: PretrainedConfig) -> None:
    """Set every dropout rate that a configuration may have to 0.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> config = TinyRandom().config
        >>> drop_nothing(config)
        >>> config.hidden_dropout_prob
        0.0
    """
    for name in _dropouts(config):
        setattr(config, name, 0.0)


def _dropouts(config: PretrainedConfig) -> list[str]:
    return [name for name in _DROPOUTS if isinstance(getattr(config, name, None), (int, float))]
