"""Let the tokens of a decoder see those after them, in all layers or in the last ones, and check that they do."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from inbatch.errors import UsageError
from inbatch.models.adapters.modifier import Modifier
from inbatch.models.layers import layers_of
from inbatch.models.record import RECORD, read_record

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from inbatch.models.backbones.base import Backbone


@dataclass(frozen=True)
class Bidirectional(Modifier):
    """Take the causal mask off a decoder; see `uncover`.

    Attributes:
        layers: True for all of them, a number for the last so many.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> TinyRandom("llama").causal, TinyRandom("llama", bidirectional=True).causal
        (True, False)
    """

    layers: bool | int

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        uncover(backbone.network, self.layers)


def uncovered_layers(folder: Path, config: PretrainedConfig, asked: bool | int | None) -> bool | int:
    """Return which layers of a network have no causal mask: those that are asked for, or those that its folder has without.

    Raises:
        UsageError: if all are asked for with it, and the folder has some without.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> uncovered_layers(Path("no export"), TinyRandom("llama").config, None)
        False
    """
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


def uncover(network: PreTrainedModel, layers: bool | int = True) -> None:
    """Take the causal mask off a decoder, in place, and check that its tokens then see those after them.

    Args:
        network: a decoder, bare.
        layers: True for all of them, as in LLM2Vec and NV-Embed; a number for the last so many, as in BeLLM; False for none.

    Raises:
        UsageError: if the network is no decoder, does not heed the setting, or runs flash attention (not tested there); or if it has
            fewer layers.

    Source: BehnamGhader et al. 2024, arXiv 2404.05961, section 2.1; Li and Li 2024, arXiv 2311.05296, section 3.2.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom("llama")
        >>> uncover(backbone.network)
        >>> all(sees_ahead(backbone.network))
        True
    """
    name = type(network).__name__
    whole = isinstance(layers, bool)
    if layers is False or (whole and getattr(network.config, "is_causal", None) is False):
        return
    if network.config._attn_implementation == "flash_attention_2":
        raise UsageError("bidirectional attention runs with sdpa or eager only. Set backbone.attention to sdpa.")
    if any(sees_ahead(network)):
        raise UsageError(f"expected a decoder to make bidirectional; {name} is bidirectional already. Drop the option.")
    if whole:
        network.config.is_causal = False
    else:
        _uncover_last(network, layers)
    if not all(sees_ahead(network)):
        raise UsageError(
            f"expected a decoder whose causal mask can be taken off; {name} keeps it. Drop `bidirectional`."
        )


def _uncover_last(network: PreTrainedModel, count: int) -> None:
    total = network.config.get_text_config().num_hidden_layers
    layers = layers_of(network)
    if not 1 <= count <= total or layers is None:
        raise UsageError(
            f"expected bidirectional to be true, false or a number of layers in [1, {total}]; got {count}. Set backbone.bidirectional."
        )
    for layer in layers[total - count :]:
        for module in layer.modules():
            if hasattr(module, "is_causal"):
                attention: Any = module
                attention.is_causal = False  # what rules where no mask is given, as for sdpa without padding
        layer.register_forward_pre_hook(_see_all, with_kwargs=True)


def _see_all(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give every query of a layer the mask of the last one, which sees all that is no padding.

    Read off the causal mask that the layer is given, so that a layer which is computed again in the backward pass finds the same.
    """
    if "attention_mask" in kwargs:
        return args, {**kwargs, "attention_mask": _of_last_query(kwargs["attention_mask"])}
    place = list(inspect.signature(layer.forward).parameters).index("attention_mask")
    return (*args[:place], _of_last_query(args[place]), *args[place + 1 :]), kwargs


def _of_last_query(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask[:, :, -1:, :].expand_as(mask)


@torch.no_grad()
def sees_ahead(network: PreTrainedModel) -> list[bool]:
    """Say whether the first token's state depends on the last token, without padding and with it.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> sees_ahead(TinyRandom("llama").network)
        [False, False]
    """
    training = network.training
    network.eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 8]], device=network.device)
    seen = []
    for mask in ([1, 1, 1, 1], [1, 1, 1, 0]):
        attention_mask = torch.tensor([mask, mask], device=network.device)
        first = network(input_ids=ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        seen.append(not torch.equal(first[0], first[1]))
    network.train(training)
    return seen
