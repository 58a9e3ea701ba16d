"""Where a network's positions begin, and the positions of tokens that do not begin at the left edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def first_position(network: PreTrainedModel) -> int:
    """Return the position of a text's first token: 0, or what follows the padding's row in RoBERTa and its kin.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> first_position(TinyRandom("bert").network), first_position(TinyRandom("roberta").network)
        (0, 2)
    """
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def positions(attention_mask: Tensor, first: int) -> Tensor:
    """Count each text's tokens from ``first``, whatever padding stands before them; (b, L) int64.

    Padding gets the position of the first token, or of the last one before it: no row beyond the table, and nothing looks at it.

    Example:
        >>> import torch
        >>> positions(torch.tensor([[0, 1, 1]]), 5)
        tensor([[5, 5, 6]])
    """
    return (attention_mask.cumsum(1) - 1).clamp(min=0) + first
