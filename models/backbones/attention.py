"""Choose the attention implementation of a backbone, and say why."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Literal

import torch

from inbatch.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Attention = Literal["auto", "flash", "sdpa", "eager"]

_NO_GPU = "there is no CUDA GPU"
_HALF = (torch.bfloat16, torch.float16)


def choose_attention(attention: Attention, dtype: torch.dtype) -> tuple[str | None, str]:
    """Return the implementation to ask transformers for, and a clause that says why.

    Args:
        attention: ``flash`` (needs flash-attn, an Ampere or later GPU, half-precision weights), ``sdpa`` (PyTorch's own),
            ``eager``, or ``auto``: flash where it can run, else what transformers takes for the architecture (sdpa), and see
            `adapt_attention`.
        dtype: of the weights.

    Returns:
        ``("flash_attention_2" | "sdpa" | "eager" | None, reason)``; None leaves the choice to transformers.

    Raises:
        UsageError: if the name is unknown, or ``flash`` is asked for and cannot run.

    Example:
        >>> choose_attention("eager", torch.float32)
        ('eager', 'as asked')
    """
    if attention in ("sdpa", "eager"):
        return attention, "as asked"
    if attention not in ("auto", "flash"):
        raise UsageError(f"expected attention to be auto, flash, sdpa or eager; got {attention!r}")
    obstacle = _flash_obstacle(dtype)
    if obstacle is None:
        return "flash_attention_2", "as asked" if attention == "flash" else "flash-attn and a fitting GPU are there"
    if attention == "flash":
        raise UsageError(
            f"attention `flash` cannot run: {obstacle}. Set backbone.attention to auto or sdpa, or mend that."
        )
    if obstacle == _NO_GPU:
        return None, f"PyTorch's own, as {_NO_GPU}; eager where a CPU computes in bfloat16"
    return None, f"no flash: {obstacle}; eager where a CPU computes in bfloat16"


def unless_flash_unfit(cls: Any, bidirectional: bool | int, reason: str) -> tuple[str | None, str]:
    """Return flash with the reason for it, or no wish where an architecture does not know it, or its causal mask is taken off.

    Example:
        >>> unless_flash_unfit(object, True, "")[0] is None
        True
    """
    if bidirectional:
        return None, "no flash: it is not tested with decoders whose causal mask is taken off"
    if getattr(cls, "_supports_flash_attn", False):
        return "flash_attention_2", reason
    return None, f"no flash: {cls.__name__} does not know it"


def adapt_attention(network: PreTrainedModel, device: torch.device) -> None:
    """Set ``eager`` where a CPU is about to compute in bfloat16, and ``sdpa`` elsewhere.

    There PyTorch's fused kernel takes longer than plain products, backward above all: a MiniLM step took 1.4 times as long.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom(dtype="bfloat16")
        >>> adapt_attention(backbone.network, torch.device("cpu"))
        >>> backbone.attention
        'eager'
    """
    narrow = network.dtype == torch.bfloat16
    if torch.is_autocast_enabled("cpu"):
        narrow = torch.get_autocast_dtype("cpu") == torch.bfloat16
    wanted = "eager" if device.type == "cpu" and narrow else "sdpa"
    if network.config._attn_implementation != wanted:
        network.set_attn_implementation(wanted)


def _flash_obstacle(dtype: torch.dtype) -> str | None:
    if not torch.cuda.is_available():
        return _NO_GPU
    if importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed (`pip install 'inbatch[flash]'`)"
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return f"flash-attn needs compute capability 8.0 or more, this GPU has {major}.{minor}"
    if dtype not in _HALF:
        return (
            f"flash-attn needs half-precision weights, these are {str(dtype).removeprefix('torch.')} (dtype: bfloat16)"
        )
    return None
