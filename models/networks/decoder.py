"""A frozen causal language model that reads an embedding's states in the place of a prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inbatch.models import huggingface
from inbatch.models.backbones.attention import Attention, choose_attention, unless_flash_unfit
from inbatch.models.backbones.pretrained import Dtype, torch_dtype
from inbatch.models.backbones.tiny import Kind, tiny_config, tiny_tokenizer
from inbatch.models.dropout import drop_nothing
from inbatch.models.layers import checkpoint_layers
from inbatch.models.locate import locate
from inbatch.views import TokenBatch


class Decoder(nn.Module):
    """Predicts a text from k states: (b, k, h) and (b, L) tokens -> (b, k + L, vocabulary) logits.

    Its weights are frozen, and the gradient passes through it to the states. Frozen is not the same as eval: ``dropout`` decides
    whether its dropout follows the training.

    Args:
        network: of transformers, a causal language model.
        tokenizer: its own.
        dropout: leave dropout on while training.
        gradient_checkpointing: recompute each layer in the backward pass. Layers do so in training mode only, which the network then
            follows: without ``dropout`` its rates must be 0.

    Source: Deng et al. 2025, arXiv 2502.11401, section 3.2.

    Example:
        >>> TinyDecoder(max_length=64).max_positions
        64
    """

    keeps_frozen = True

    def __init__(
        self, network: Any, tokenizer: Any, dropout: bool = False, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.tokenizer = tokenizer
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            checkpoint_layers(network)
        self.train()  # a trainer keeps the mode that it finds

    @property
    def hidden_size(self) -> int:
        """Size h of the states that it reads."""
        return self.network.get_input_embeddings().weight.shape[1]

    @property
    def max_positions(self) -> int | None:
        """Positions that it has, or was trained with; None where its configuration does not say."""
        return getattr(self.network.config.get_text_config(), "max_position_embeddings", None)

    def train(self, mode: bool = True) -> Decoder:
        """Follow the mode of the training only if dropout or recomputed layers are asked for."""
        return super().train(mode and (self.dropout or self.gradient_checkpointing))

    def forward(self, states: Tensor, targets: TokenBatch) -> Tensor:
        """Predict, at each place, the token behind it.

        Args:
            states: (b, k, h), with gradient; cast to the network's dtype.
            targets: (b, L), padded on the right.
        """
        embedded = self.network.get_input_embeddings()(targets.input_ids)
        mask = torch.cat([targets.attention_mask.new_ones(states.shape[:2]), targets.attention_mask], 1)
        inputs = torch.cat([states.to(embedded.dtype), embedded], 1)
        return self.network(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits


class PretrainedDecoder(Decoder):
    """A pretrained decoder; AutoRegEmbed takes the encoder's own base, as it was before any training.

    Args:
        name: a folder or a hub id of a causal language model. An export of a language model with tied embeddings is one, too.
        dtype: of the weights.
        attention: as in `Pretrained`.
        dropout: as in `Decoder`.
        gradient_checkpointing: as in `Decoder`; the rates are seen to.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if it is no causal language model.

    Example:
        >>> tiny = TinyDecoder(hidden_size=16)
        >>> for part in (tiny.network, tiny.tokenizer):
        ...     _ = part.save_pretrained("decoder")
        >>> PretrainedDecoder("decoder").hidden_size
        16
    """

    def __init__(
        self,
        name: str,
        dtype: Dtype = "float32",
        attention: Attention = "auto",
        dropout: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        folder = locate(name)
        implementation, reason = choose_attention(attention, torch_dtype(dtype))
        config = huggingface.load_config(folder, name, layers=None, dropout=None)
        if gradient_checkpointing and not dropout:
            drop_nothing(config)
        if implementation == "flash_attention_2" and attention == "auto":
            implementation, _ = unless_flash_unfit(huggingface.class_for(config, "causal_lm"), False, reason)
        network = huggingface.load_network(folder, name, config, torch_dtype(dtype), implementation, "causal_lm")
        super().__init__(network, huggingface.load_tokenizer(folder), dropout, gradient_checkpointing)


class TinyDecoder(Decoder):
    """A tiny random decoder with the tokenizer of `TinyRandom`, for tests and dry runs.

    Args:
        kind: a decoder of `TinyRandom`.
        hidden_size: of its network.
        num_layers: of its network.
        seed: of the weights.
        max_length: positions.

    Example:
        >>> TinyDecoder(hidden_size=16).hidden_size
        16
    """

    def __init__(
        self, kind: Kind = "llama", hidden_size: int = 32, num_layers: int = 1, seed: int = 3, max_length: int = 512
    ) -> None:
        tokenizer = tiny_tokenizer(kind, max_length, "right")
        config = tiny_config(
            kind, tokenizer, hidden_size=hidden_size, num_layers=num_layers, num_heads=2, max_length=max_length
        )
        super().__init__(huggingface.random_network(config, seed, torch.float32, None, "causal_lm"), tokenizer)
