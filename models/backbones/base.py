"""A backbone: a network that turns tokens into hidden states, with its tokenizer; full, adapted or frozen."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.modifier import Modifier, refuse_conflicts
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.adapters.quantization import MergeInto, Quantize, Quantized
from inbatch.models.backbones.attention import adapt_attention
from inbatch.models.backbones.bidirectional import Bidirectional, sees_ahead
from inbatch.models.backbones.injection import Injection, injected
from inbatch.models.backbones.positions import first_position, positions
from inbatch.models.heads.pooling import States
from inbatch.models.reads import asks_attentions, asks_states, picked
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from inbatch.models.adapters.learned_tokens import LearnedTable
    from inbatch.models.adapters.prefix import PrefixTable

M = TypeVar("M", bound=Modifier)

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
        modifiers: what is changed of the network and the tokenizer; attached in their order. See `modifiers_of` for the options that a
            configuration has for them.

    Raises:
        UsageError: if two modifiers exclude each other, or one does not fit the network.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.text.tokens import tokenize
        >>> made = TinyRandom("bert")
        >>> backbone = Backbone(made.network, made.tokenizer, name="mine", modifiers=[Prefix(3)])
        >>> backbone(tokenize(backbone.tokenizer, ["two", "texts"])).last.shape
        torch.Size([2, 7, 32])

    Attributes:
        revision: the commit of a hub model, else None.
        modifiers: those that are attached.
        learned_tokens: the input vectors of learned tokens, else None.
        prefix_table: the keys and values of a prefix, else None.
        merge_into: which weights an export merges adapters into where they are; see `as_merged`.
        folder: that the network was loaded from, else None.
        brings_latent: whether that folder's export had latent attention, which is the encoder's.
        own_length: tokens that the folder itself says are kept of a text, else None; see `own_length`.
        first_position: what the network counts a text's positions from.
        adapts: whether the attention implementation is chosen at each call.
    """

    keeps_frozen = True  # what is frozen of it comes from its name, and a checkpoint leaves it out
    revision: str | None = None
    merge_into: MergeInto = "quantized"
    folder: Path | None = None
    brings_latent: bool = False
    own_length: int | None = None
    learned_tokens: LearnedTable | None
    prefix_table: PrefixTable | None

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        attention_reason: str = "as the network came",
        adapt: bool = False,
        modifiers: Sequence[Modifier] = (),
    ):
        super().__init__()
        refuse_conflicts(modifiers)
        self.tokenizer = tokenizer
        self.name = name
        self.attention_reason = attention_reason
        # In this order the parameters stand in optimizers and checkpoints.
        self.register_module("learned_tokens", None)
        self.model: PreTrainedModel | PeftModel = network
        self.register_module("prefix_table", None)
        self._accepts = frozenset(inspect.signature(network.forward).parameters)
        self.first_position = first_position(network)
        self.modifiers: list[Modifier] = []
        for modifier in modifiers:
            modifier.attach(self)
            self.modifiers.append(modifier)
        if self.max_positions is not None and tokenizer.model_max_length > _NO_LIMIT:
            tokenizer.model_max_length = self.max_positions
        self.adapts = adapt and network.config._attn_implementation == "sdpa"
        self.train()

    def modifier(self, kind: type[M]) -> M | None:
        """Return the modifier of a kind, or None."""
        return next((modifier for modifier in self.modifiers if isinstance(modifier, kind)), None)

    @property
    def lora(self) -> Lora | None:
        """Settings of the adapters that it was built with; None also where they came with a folder."""
        return self.modifier(Lora)

    @property
    def prefix(self) -> Prefix | None:
        """Settings of its prefix."""
        return self.modifier(Prefix)

    @property
    def quantize(self) -> Quantize | None:
        """How the network's linear layers are quantized; None for not at all."""
        found = self.modifier(Quantized)
        return None if found is None else found.kind

    @property
    def bidirectional(self) -> bool | int:
        """Whether the tokens of a decoder see those after them: in all layers, or in the last so many."""
        found = self.modifier(Bidirectional)
        # A decoder that was saved without its causal mask says so itself.
        return getattr(self.config, "is_causal", None) is False if found is None else found.layers

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
        return self.first_position + sum(modifier.positions for modifier in self.modifiers)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.device

    def run_eager(self, reason: str) -> None:
        """Compute attention step by step from here on, so that its maps can be read."""
        self.network.set_attn_implementation("eager")
        self.adapts, self.attention_reason = False, reason

    def forward(
        self,
        tokens: TokenBatch,
        layer: int | None = None,
        reads: Collection[str] = (),
        inject: Sequence[Injection] = (),
    ) -> States:
        """Run the network.

        Args:
            tokens: (b, L), padded on either side.
            layer: also return this layer's output; 0 is that of the embeddings, -2 that of the layer before the last.
            reads: also return these, by name; see `inbatch.models.reads.check_reads`.
            inject: what is put into the stream of states, or taken out of it; see `injected`.
        """
        inputs: dict[str, Any] = {
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
            "token_type_ids": tokens.token_type_ids,
            "position_ids": self._positions(tokens),
            "use_cache": False,
        }
        for modifier in self.modifiers:
            inputs = modifier.inputs(self, tokens, inputs)
        inputs = {key: value for key, value in inputs.items() if value is not None and key in self._accepts}
        if self.adapts:
            adapt_attention(self.network, tokens.input_ids.device)
        states = layer is not None or asks_states(reads)
        maps = {"output_attentions": True} if asks_attentions(reads) else {}
        with injected(self.network, inject):
            output = self.network(**inputs, output_hidden_states=states, return_dict=True, **maps)
        other = None if layer is None else output.hidden_states[layer]
        return States(output.last_hidden_state, other, picked(reads, output))

    def _positions(self, tokens: TokenBatch) -> Tensor | None:
        """Count positions from each text's first token where padding or a prefix comes before it; networks count from the left edge."""
        if tokens.position_ids is not None:
            return tokens.position_ids
        given = any(modifier.gives_positions for modifier in self.modifiers)
        if given or self.tokenizer.padding_side == "left":
            return positions(tokens.attention_mask, self.first_text_position)
        return None
