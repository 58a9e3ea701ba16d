"""What an export merges adapters into, where they were trained on weights in 4 bits: those, or the ones that these were made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inbatch.models import huggingface
from inbatch.models.adapters.lora import load_adapter
from inbatch.models.adapters.quantization import Quantized, plain_config
from inbatch.models.backbones.bidirectional import uncover

if TYPE_CHECKING:
    from peft import PeftModel

    from inbatch.models.backbones.base import Backbone


def merges_elsewhere(backbone: Backbone) -> bool:
    """Say whether an export merges adapters into other weights than they were trained on, so that it embeds otherwise than in training.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> merges_elsewhere(TinyRandom())
        False
    """
    return backbone.adapted and backbone.quantize is not None and backbone.merge_into == "unquantized"


@contextmanager
def as_merged(backbone: Backbone, adapter: Path) -> Iterator[None]:
    """Put the network that an export holds in the place of the live one, which comes back.

    They are one unless adapters on quantized weights are to be merged into unquantized ones (`Backbone.merge_into`). That network is
    loaded again, in float32 whatever the live one computes in, as releases do that merge so; it needs its memory beside the live one.

    Args:
        backbone: of the encoder that is exported.
        adapter: folder in which its adapter has been saved.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom()
        >>> with as_merged(backbone, Path("adapter")):
        ...     backbone.adapted
        False
    """
    if not merges_elsewhere(backbone):
        yield
        return
    live, modifiers = backbone.model, backbone.modifiers
    backbone.model = _unquantized(backbone, adapter)
    backbone.modifiers = [modifier for modifier in modifiers if not isinstance(modifier, Quantized)]
    try:
        yield
    finally:
        backbone.model, backbone.modifiers = live, modifiers


def _unquantized(backbone: Backbone, adapter: Path) -> PeftModel:
    assert backbone.folder is not None, "what is quantized has been loaded from a folder"
    # In float32 there is no flash attention.
    attention = "sdpa" if backbone.attention == "flash_attention_2" else backbone.attention
    config = plain_config(backbone.network)
    network = huggingface.load_network(backbone.folder, backbone.name, config, torch.float32, attention)
    uncover(network, backbone.bidirectional)
    return load_adapter(network, adapter).to(backbone.device)
