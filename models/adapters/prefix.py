"""Deep continuous prompts: trained keys and values in front of every layer's own, on a network that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.adapters.checkpointing import GradientCheckpointing
from inbatch.models.adapters.lora import Lora
from inbatch.models.adapters.modifier import Modifier, save_module
from inbatch.models.record import load_module
from inbatch.views import TokenBatch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from inbatch.models.backbones.base import Backbone

# Of an export: what is trained beside the network's own weights.
FILE = "prefix.safetensors"


@dataclass(frozen=True)
class Prefix(Modifier):
    """What is trained in the place of a frozen network's weights.

    Attributes:
        length: entries k in front of each layer's keys and values. Positions of the text begin k later.
        dropout: on keys and values, drawn for every text; None takes the network's ``hidden_dropout_prob``.
        projection: size of a hidden layer through which the table is computed; None trains the table itself.

    Source: Jiang, Zhang, Wang 2022, arXiv 2203.06875, section 3.1; Li and Liang 2021, arXiv 2101.00190.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> TinyRandom(prefix=Prefix(4)).first_text_position
        4
    """

    freezes: ClassVar[bool] = True
    gives_positions: ClassVar[bool] = True

    length: int
    dropout: float | None = None
    projection: int | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"expected a prefix length of at least 1; got {self.length}. Set prefix.length.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UsageError(f"expected a prefix dropout in [0, 1); got {self.dropout}. Set prefix.dropout.")
        if self.projection is not None and self.projection < 1:
            raise UsageError(
                f"expected a prefix projection of at least 1; got {self.projection}. Set prefix.projection."
            )

    @property
    def positions(self) -> int:
        """See `Modifier.positions`."""
        return self.length

    def refuses(self, others: Sequence[Modifier]) -> str | None:
        """See `Modifier.refuses`."""
        for kind, option in ((Lora, "lora"), (GradientCheckpointing, "gradient_checkpointing")):
            if any(isinstance(other, kind) for other in others):
                return (
                    f"expected prefix or {option}, got both: a prefix is trained on the frozen network as it is, in one pass. Drop one "
                    "(model.chunk_tokens bounds the memory, too)."
                )
        return None

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        backbone.network.requires_grad_(False)
        backbone.prefix_table = PrefixTable(self, backbone.config, backbone.max_positions)

    def inputs(self, backbone: Backbone, tokens: TokenBatch, inputs: dict[str, Any]) -> dict[str, Any]:
        """Put the table in front of the text as a cache; see `Modifier.inputs`."""
        table: Any = backbone.prefix_table
        return {
            **inputs,
            "past_key_values": table(len(tokens), backbone.network.dtype, tokens.seeds),
            "attention_mask": before(tokens.attention_mask, self.length),
        }

    def save(self, backbone: Backbone, folder: Path) -> None:
        """See `Modifier.save`."""
        save_module(backbone.prefix_table, folder / FILE)

    def load(self, backbone: Backbone, folder: Path) -> None:
        """See `Modifier.load`."""
        load_module(backbone.prefix_table, folder / FILE)  # type: ignore[arg-type]

    @staticmethod
    def refuse_dropped(folder: Path, name: str) -> None:
        """Refuse a folder that was exported with a prefix where none is asked for.

        Raises:
            UsageError: if so.
        """
        if (folder / FILE).is_file():
            raise UsageError(
                f"{name} was exported with a prefix, which is no part of the network: it would be dropped. Set backbone.prefix for a new one, or "
                "name another model."
            )


class PrefixTable(nn.Module):
    """The trained keys and values of all layers.

    Args:
        prefix: its settings.
        config: of the network.
        max_positions: what the network's position table holds; None if it has none.

    Raises:
        UsageError: if the prefix leaves no position for a text.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> table = PrefixTable(Prefix(4), TinyRandom(num_layers=2).config, None)
        >>> table.shape  # length, keys and values of 2 layers, heads, size
        (4, 4, 2, 16)
    """

    def __init__(self, prefix: Prefix, config: PretrainedConfig, max_positions: int | None) -> None:
        super().__init__()
        if max_positions is not None and prefix.length > max_positions - 3:
            raise UsageError(
                f"expected a prefix that leaves room for a text of 3 tokens within {max_positions} positions; got length "
                f"{prefix.length}. Set prefix.length."
            )
        text = config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.length = prefix.length
        self.shape = (prefix.length, 2 * text.num_hidden_layers, heads, width)
        size = 2 * text.num_hidden_layers * heads * width
        inner = size if prefix.projection is None else text.hidden_size
        self.table = nn.Parameter(torch.empty(prefix.length, inner))
        nn.init.normal_(self.table, std=0.02)
        self.projection: nn.Module = nn.Identity()
        if prefix.projection is not None:
            self.projection = nn.Sequential(
                nn.Linear(inner, prefix.projection), nn.Tanh(), nn.Linear(prefix.projection, size)
            )
        rate = getattr(text, "hidden_dropout_prob", 0.0) if prefix.dropout is None else prefix.dropout
        self.dropout = nn.Dropout(rate)

    def forward(self, rows: int, dtype: torch.dtype, seeds: Tensor | None = None) -> Any:
        """Return a fresh cache of keys and values for so many texts, in the network's dtype; a forward pass uses one up.

        Args:
            rows: b, the number of texts.
            dtype: of the keys and values.
            seeds: (b,) of `seeded`, from which each text's dropout is drawn; None draws it from torch's generator.
        """
        from transformers import DynamicCache

        entries = self.projection(self.table).view(self.shape).expand(rows, *self.shape)
        dropped = self.dropout(entries) if seeds is None else self._drop(entries, seeds)
        layers = dropped.to(dtype).permute(2, 0, 3, 1, 4)  # (2 layers, rows, heads, length, width)
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(layers[0::2], layers[1::2])):
            cache.update(key, value, layer)
        return cache

    def _drop(self, entries: Tensor, seeds: Tensor) -> Tensor:
        rate, device = self.dropout.p, entries.device
        if not self.training or rate == 0:
            return entries
        kept = torch.empty(entries.shape, device=device)
        for row, seed in zip(kept, seeds.tolist()):
            row.bernoulli_(1 - rate, generator=torch.Generator(device).manual_seed(seed))
        return entries * (kept / (1 - rate)).to(entries.dtype)


def seeded(tokens: TokenBatch) -> TokenBatch:
    """Give every text a seed, so that all passes over it, in whatever chunks, draw the same dropout of a prefix.

    Example:
        >>> tokens = TokenBatch(torch.ones(2, 3).long(), torch.ones(2, 3).long())
        >>> seeded(tokens).seeds.shape
        torch.Size([2])
    """
    return replace(tokens, seeds=torch.randint(2**62, (len(tokens),), device=tokens.input_ids.device))


def before(attention_mask: Tensor, length: int) -> Tensor:
    """Extend an attention mask (b, L) to the left by a prefix that all tokens see; (b, length + L).

    Example:
        >>> before(torch.tensor([[1, 0]]), 2)
        tensor([[1, 1, 1, 0]])
    """
    return torch.cat([attention_mask.new_ones(len(attention_mask), length), attention_mask], 1)
