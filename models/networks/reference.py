"""A saved encoder that is never trained: similarities to hold a student to, or guidance about false negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.backbones.attention import Attention
from inbatch.models.export.load import load_encoder
from inbatch.views import TokenBatch


class Reference(nn.Module):
    """A frozen encoder with the head that it was saved with.

    Frozen and eval mode are two things: ``dropout`` decides whether its dropout follows the training.

    Args:
        name: whatever `load_encoder` loads: an export of an earlier stage, ``minilm``, a folder or a hub id.
        dropout: leave dropout on while training; off, as GCSE has it, the reference says the same of a text each time.
        attention: as in `Pretrained`.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if it subtracts a template's bias.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> _ = Encoder(TinyRandom()).save_pretrained("stage 1")
        >>> any(p.requires_grad for p in Reference("stage 1").parameters())
        False
    """

    keeps_frozen = True

    def __init__(self, name: str, dropout: bool = False, attention: Attention = "auto") -> None:
        super().__init__()
        self.encoder = load_encoder(name, attention=attention).requires_grad_(False)
        if self.encoder.correction is not None and self.encoder.correction.template_bias_at_test:
            raise UsageError(
                f"expected a reference whose texts stand for themselves; {name} subtracts the bias of a template, which is not the one "
                "of the texts it is given here. Choose another reference."
            )
        self.dropout = dropout
        self.train()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that its tokens must come from."""
        return self.encoder.tokenizer

    def train(self, mode: bool = True) -> Reference:
        """Follow the mode of the training only if dropout is asked for."""
        return super().train(mode and self.dropout)

    @torch.no_grad()
    def forward(self, tokens: TokenBatch) -> Tensor:
        """Embed tokens, (b, L) -> (b, d), without gradient."""
        return self.encoder(tokens)
