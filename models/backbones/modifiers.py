"""The options of a backbone, as they stand in a configuration, spelled as the list of its modifiers."""

from __future__ import annotations

from inbatch.models.adapters.checkpointing import GradientCheckpointing
from inbatch.models.adapters.frozen import Frozen
from inbatch.models.adapters.learned_tokens import LearnedTokens
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.modifier import Modifier, refuse_conflicts
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.adapters.quantization import Quantize, Quantized
from inbatch.models.backbones.bidirectional import Bidirectional
from inbatch.models.backbones.eos import EndOfText, Eos


def modifiers_of(
    bidirectional: bool | int,
    eos: Eos,
    learned_tokens: LearnedTokens | None,
    gradient_checkpointing: bool,
    frozen: bool,
    lora: Lora | None,
    prefix: Prefix | None,
    quantize: Quantize | None = None,
) -> list[Modifier]:
    """Return the modifiers that options ask for, in the order in which they are attached and draw their weights.

    Args:
        bidirectional: as in `Pretrained`, and so are the others.
        eos: of the tokenizer.
        learned_tokens: their modifier, which may take them from a folder.
        gradient_checkpointing: of each layer.
        frozen: train nothing of the network.
        lora: settings of adapters.
        prefix: settings of a prefix.
        quantize: how linear layers are held.

    Raises:
        UsageError: if two of them exclude each other.

    Example:
        >>> modifiers_of(True, "as_is", None, False, False, Lora(rank=2), None)
        [Bidirectional(layers=True), Lora(rank=2, alpha=16.0, dropout=0.0, targets=None)]
    """
    asked = [
        None if quantize is None else Quantized(quantize),
        # A number of layers may be 0 or 1, which equal False and True: refused where it is none of [1, layers].
        None if bidirectional is False else Bidirectional(bidirectional),
        None if eos == "as_is" else EndOfText(eos),
        learned_tokens,
        GradientCheckpointing() if gradient_checkpointing else None,
        Frozen() if frozen else None,
        lora,
        prefix,
    ]
    found: list[Modifier] = [modifier for modifier in asked if modifier is not None]
    refuse_conflicts(found)
    return found
