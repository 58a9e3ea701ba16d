"""A network that reads a text together with a vector that stands in the place of its first token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.backbones.base import Backbone
from inbatch.views import TokenBatch


class Discriminator(nn.Module):
    """Say of every token whether it was replaced, given the sentence's vector: (b, L) tokens, (b, h) vectors -> (b, L, 2) logits.

    The output of the embedding layer at the first token is overwritten by the vector, without position, layer norm or dropout on
    it: not what ``inputs_embeds`` does, which would add them.

    Args:
        backbone: a network of its own, trained; its first module that is called ``embeddings`` makes what is overwritten.

    Raises:
        UsageError: if the network has no such module.

    Source: Chuang et al. 2022, arXiv 2204.10298, section 3; class 1 is "replaced".

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> any(p.requires_grad for p in Discriminator(TinyRandom()).parameters())
        True
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        found = getattr(backbone.network, "embeddings", None)
        if not isinstance(found, nn.Module):
            raise UsageError(
                f"expected a discriminator with a module `embeddings`, such as BERT or RoBERTa; {type(backbone.network).__name__} "
                "has none. Choose another backbone for the discriminator."
            )
        self.backbone = backbone
        self.head = nn.Linear(backbone.hidden_size, 2)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that its tokens must come from."""
        return self.backbone.tokenizer

    def forward(self, tokens: TokenBatch, vectors: Tensor) -> Tensor:
        """Run the network with the vectors in the place of the first tokens."""
        if vectors.shape[1] != self.backbone.hidden_size:
            raise UsageError(
                f"expected embeddings of size {self.backbone.hidden_size}, the discriminator's; got {vectors.shape[1]}. Choose a "
                "discriminator of the encoder's hidden size."
            )
        first = (
            torch.arange(tokens.input_ids.shape[1], device=vectors.device)
            == tokens.attention_mask.int().argmax(1)[:, None]
        )

        def overwrite(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
            return torch.where(first[:, :, None], vectors[:, None].to(embedded.dtype), embedded)

        embeddings: Any = self.backbone.network.embeddings
        handle = embeddings.register_forward_hook(overwrite)
        try:
            states = self.backbone(tokens).last
        finally:
            handle.remove()
        return self.head(states.to(self.head.weight.dtype))
