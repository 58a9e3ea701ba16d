"""Weights in 4 bits under trained adapters (QLoRA): how they are loaded, and what they are when they are written out."""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.adapters.modifier import Modifier
from inbatch.models.huggingface import network_class, no_pooler
from inbatch.spelling import require_choice

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from inbatch.models.backbones.base import Backbone

Quantize = Literal["nf4"]
# What an export merges the adapters into: the numbers that weights in 4 bits stand for, or the weights that they were made from.
MergeInto = Literal["quantized", "unquantized"]


@dataclass(frozen=True)
class Quantized(Modifier):
    """Hold a network's linear layers in 4 bits, under what is trained on them (QLoRA).

    Attributes:
        kind: ``nf4`` with double quantization: about 4.1 bits a weight.

    Example:
        >>> from inbatch.models.adapters.lora import Lora
        >>> Quantized("nf4").refuses([Lora()]) is None
        True

    Source: Dettmers et al. 2023, arXiv 2305.14314, section 3.
    """

    kind: Quantize

    def __post_init__(self) -> None:
        if self.kind not in get_args(Quantize):
            raise UsageError(f"expected quantize to be nf4 or null; got {self.kind!r}. Set backbone.quantize.")

    def refuses(self, others: Sequence[Modifier]) -> str | None:
        """Refuse to be trained itself; see `Modifier.refuses`."""
        if any(other.freezes for other in others):
            return None
        return (
            "quantized weights cannot be trained. Set backbone.lora (or backbone.frozen), or backbone.quantize to null."
        )

    def loading(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return what transformers' loader needs.

        Args:
            dtype: that the layers compute in, and that everything else is held in.

        Raises:
            UsageError: if bitsandbytes is not installed, or the dtype cannot be.
        """
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UsageError(
                "quantize: nf4 expects bitsandbytes, which is not installed. `pip install 'inbatch[qlora]'`, or set backbone.quantize to "
                "null."
            )
        if dtype == torch.float64:
            raise UsageError("quantize: nf4 computes in float32, bfloat16 or float16; got float64. Set backbone.dtype.")
        from transformers import BitsAndBytesConfig

        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        # Quantized where it is loaded, once: the ranks of a machine must not all take its first GPU.
        place = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        return {"quantization_config": config, "device_map": {"": place}}

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`; the network was loaded with `loading`."""
        keep_exact(backbone.network)


def refuse_unpackable(config: PretrainedConfig) -> None:
    """Refuse an architecture whose linear layers would come out transposed, as GPT-2's.

    Raises:
        UsageError: if so.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> refuse_unpackable(TinyRandom("llama").config)
    """
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        cls: Any = network_class(config)
        if any(isinstance(m, Conv1D) for m in cls._from_config(config).modules()):
            raise UsageError(
                f"quantize: nf4 expects a network of linear layers; {cls.__name__} has others. Set backbone.quantize to null."
            )


def keep_exact(network: nn.Module) -> None:
    """Keep bitsandbytes from repacking weights in evaluations on processors with AVX512-BF16.

    It would unpack them for a state dict with their scales rounded to bfloat16: a run that evaluates and saves would no longer train on
    the weights that it began with.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> keep_exact(TinyRandom().network)
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def is_quantized(network: nn.Module) -> bool:
    """Say whether a network holds weights in 4 bits.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> is_quantized(TinyRandom().network)
        False
    """
    return any(hasattr(p, "quant_state") for p in network.parameters())


def dequantized(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight as the numbers that it stands for; one that is not quantized as it is.

    Example:
        >>> dequantized(torch.ones(2), torch.float32)
        tensor([1., 1.])
    """
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)


def plain_config(network: PreTrainedModel) -> PretrainedConfig:
    """Return a network's configuration without a word of quantization.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> plain_config(TinyRandom().network).num_hidden_layers
        2
    """
    config: Any = copy.deepcopy(network.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def plain_network(network: PreTrainedModel) -> PreTrainedModel:
    """Return an empty network of the same shape whose weights are numbers: what writes out a state that has been dequantized.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> plain_network(TinyRandom().network).device
        device(type='meta')
    """
    with torch.device("meta"):
        cls: Any = type(network)
        return cls._from_config(plain_config(network), dtype=network.dtype, **no_pooler(cls))


def check_merge_into(merge_into: MergeInto) -> None:
    """Refuse what adapters cannot be merged into.

    Raises:
        UsageError: if it is neither ``quantized`` nor ``unquantized``.

    Example:
        >>> check_merge_into("quantized")
    """
    require_choice(merge_into, get_args(MergeInto), "backbone.merge_into")
