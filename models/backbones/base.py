"""A backbone: a network that turns tokens into hidden states, with its tokenizer; full, adapted or frozen."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inbatch.models import huggingface
from inbatch.models.adapters.learned_tokens import LearnedTokens
from inbatch.models.adapters.lora import Lora, attach, refuse_together
from inbatch.models.adapters.prefix import Prefix, PrefixTable, before
from inbatch.models.adapters.quantization import MergeInto
from inbatch.models.backbones.attention import adapt_attention
from inbatch.models.backbones.bidirectional import sees_ahead, uncover
from inbatch.models.backbones.eos import Eos, set_eos
from inbatch.models.backbones.positions import first_position, positions
from inbatch.models.heads.pooling import States
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


# Tokenizers without a limit say so with an astronomic number.
_NO_LIMIT = 10**9


class Backbone(nn.Module):
    """A network that turns tokens into hidden states, and its tokenizer.

    It starts in training mode, so that dropout is on where a trainer keeps the mode that it finds.

    Args:
        network: of transformers, without adapters.
        tokenizer: with a padding token; its ``padding_side`` is kept.
        name: what the network was made from, for records.
        attention_reason: why `attention` was chosen.
        adapt: choose between sdpa and eager at each call, by device and precision (`adapt_attention`).
        lora: train adapters instead of the network.
        frozen: train nothing of the network. Dropout stays as the mode says: frozen is not the same as eval.
        prefix: train keys and values in front of every layer's own, instead of the network.
        gradient_checkpointing: recompute each layer in the backward pass (non-reentrant), for memory.
        bidirectional: let the tokens of a decoder see those after them: in all layers, or in the last so many.
        eos: whether the tokenizer ends each text with the end-of-text token; see `set_eos`.
        learned_tokens: trained tokens that templates put behind a text at ``{learned}``; 0 for none.

    Attributes:
        revision: the commit of a hub model, else None.
        quantize: how the network's weights are quantized, else None.
        merge_into: which weights an export merges adapters into where they are; see `as_merged`.
        folder: that the network was loaded from, else None.
        brings_latent: whether that folder's export had latent attention, which is the encoder's.
        own_length: tokens that the folder itself says are kept of a text, else None; see `own_length`.
        first_position: what the network counts a text's positions from.
        adapts: whether the attention implementation is chosen at each call.
    """

    keeps_frozen = True  # what is frozen of it comes from its name, and a checkpoint leaves it out
    revision: str | None = None
    quantize: str | None = None
    merge_into: MergeInto = "quantized"
    folder: Path | None = None
    brings_latent: bool = False
    own_length: int | None = None

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        attention_reason: str = "as the network came",
        adapt: bool = False,
        lora: Lora | None = None,
        frozen: bool = False,
        prefix: Prefix | None = None,
        gradient_checkpointing: bool = False,
        bidirectional: bool | int = False,
        eos: Eos = "as_is",
        learned_tokens: int = 0,
    ):
        super().__init__()
        refuse_together(frozen, lora, prefix, gradient_checkpointing)
        uncover(network, bidirectional)
        set_eos(tokenizer, eos)
        self.tokenizer = tokenizer
        self.name = name
        self.attention_reason = attention_reason
        self.lora = lora
        # A decoder that was saved without its causal mask says so itself.
        self.bidirectional = bidirectional or getattr(network.config, "is_causal", None) is False
        self.learned_tokens = LearnedTokens(learned_tokens, network, tokenizer) if learned_tokens else None
        if gradient_checkpointing:
            huggingface.checkpoint_layers(network)
        if frozen or prefix is not None:
            network.requires_grad_(False)
        self.model: PreTrainedModel | PeftModel = network if lora is None else attach(network, lora)
        self._accepts = frozenset(inspect.signature(network.forward).parameters)
        self.first_position = first_position(network)
        self.prefix = prefix
        self.prefix_table: PrefixTable | None = None
        if prefix is not None:
            self.prefix_table = PrefixTable(prefix, network.config, self.max_positions)
        if self.max_positions is not None and tokenizer.model_max_length > _NO_LIMIT:
            tokenizer.model_max_length = self.max_positions
        self.adapts = adapt and network.config._attn_implementation == "sdpa"
        self.train()

    @property
    def network(self) -> PreTrainedModel:
        """The transformers network; adapters, where there are any, sit inside its layers."""
        return self.model.get_base_model() if self.adapted else self.model  # type: ignore[operator,return-value]

    @property
    def adapted(self) -> bool:
        """Whether the network carries adapters."""
        return hasattr(self.model, "peft_config")

    @property
    def config(self) -> PretrainedConfig:
        """The network's configuration."""
        return self.network.config

    @property
    def attention(self) -> str:
        """The attention implementation that runs, or ran last."""
        return self.config._attn_implementation or "eager"

    @property
    def causal(self) -> bool:
        """Whether no token sees those after it; found by running the network."""
        return not any(sees_ahead(self.network))

    @property
    def hidden_size(self) -> int:
        """Size h of the hidden states."""
        config = self.config.get_text_config()
        return getattr(config, "word_embed_proj_dim", None) or config.hidden_size  # the former is OPT's

    @property
    def max_positions(self) -> int | None:
        """The longest text, in tokens, that the network has positions for behind a prefix; None if it does not say."""
        config = self.config.get_text_config()
        rows = getattr(config, "max_position_embeddings", None)
        if not rows or rows < 0:
            return None
        # Layers that were uncovered one by one see the whole text, which a sliding window would not show them.
        window = None if isinstance(self.bidirectional, bool) else getattr(config, "sliding_window", None)
        return min(rows - self.first_text_position, window or rows)

    @property
    def first_text_position(self) -> int:
        """The position of a text's first token, behind a prefix."""
        return self.first_position + (0 if self.prefix_table is None else self.prefix_table.length)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.device

    def forward(self, tokens: TokenBatch, layer: int | None = None) -> States:
        """Run the network.

        Args:
            tokens: (b, L), padded on either side.
            layer: also return this layer's output; 0 is that of the embeddings, -2 that of the layer before the last.
        """
        inputs: dict[str, Any] = {"attention_mask": tokens.attention_mask}
        if self.learned_tokens is None:
            inputs["input_ids"] = tokens.input_ids
        else:
            embedding: Any = self.network.get_input_embeddings()
            inputs["inputs_embeds"] = self.learned_tokens(embedding, tokens.input_ids)
        inputs["token_type_ids"] = tokens.token_type_ids
        inputs["position_ids"] = self._positions(tokens)
        if "use_cache" in self._accepts:
            inputs["use_cache"] = False
        if self.prefix_table is not None:
            inputs["past_key_values"] = self.prefix_table(len(tokens), self.network.dtype, tokens.seeds)
            inputs["attention_mask"] = before(tokens.attention_mask, self.prefix_table.length)
        inputs = {key: value for key, value in inputs.items() if value is not None and key in self._accepts}
        if self.adapts:
            adapt_attention(self.network, tokens.input_ids.device)
        output = self.network(**inputs, output_hidden_states=layer is not None, return_dict=True)
        return States(output.last_hidden_state, None if layer is None else output.hidden_states[layer])

    def _positions(self, tokens: TokenBatch) -> Tensor | None:
        """Count positions from each text's first token where padding or a prefix comes before it; networks count from the left edge."""
        if tokens.position_ids is not None:
            return tokens.position_ids
        # Networks that count around padding by its id cannot do so from input vectors.
        if self.prefix_table is not None or self.learned_tokens is not None or self.tokenizer.padding_side == "left":
            return positions(tokens.attention_mask, self.first_text_position)
        return None
