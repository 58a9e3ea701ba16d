"""Learned tokens: input vectors of their own that stand behind a text, and whose states an encoder pools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels.rows import take
from inbatch.models.adapters.modifier import Modifier, save_module
from inbatch.models.record import load_module
from inbatch.text.templates import LEARNED_TOKEN, learned_ids, parse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from inbatch.models.backbones.base import Backbone
    from inbatch.views import TokenBatch

# Of an export: the vectors, beside the network's own weights.
FILE = "learned_tokens.safetensors"
# Drawn that much around the mean of the vocabulary, relative to its spread: nearly equal, as transformers adds tokens.
_SPREAD = 3e-5
_ROWS = 4096


@dataclass(frozen=True)
class LearnedTokens(Modifier):
    """Trained tokens that templates put behind a text at ``{learned}``: a `LearnedTable` beside the network.

    Attributes:
        count: of the tokens.
        source: an export of an earlier stage whose vectors they begin with; None draws them.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> TinyRandom("llama", learned_tokens=3).learned_tokens.table.shape
        torch.Size([3, 32])
    """

    gives_positions: ClassVar[bool] = True  # networks that count around padding by its id cannot from input vectors

    count: int
    source: Path | None = None

    def attach(self, backbone: Backbone) -> None:
        """See `Modifier.attach`."""
        backbone.learned_tokens = LearnedTable(self.count, backbone.network, backbone.tokenizer)
        if self.source is not None:
            self.load(backbone, self.source)

    def inputs(self, backbone: Backbone, tokens: TokenBatch, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give input vectors in place of ids; see `Modifier.inputs`."""
        table: Any = backbone.learned_tokens
        vectors = table(backbone.network.get_input_embeddings(), tokens.input_ids)
        return {**{name: value for name, value in inputs.items() if name != "input_ids"}, "inputs_embeds": vectors}

    def save(self, backbone: Backbone, folder: Path) -> None:
        """See `Modifier.save`."""
        save_module(backbone.learned_tokens, folder / FILE)

    def load(self, backbone: Backbone, folder: Path) -> None:
        """See `Modifier.load`."""
        load_module(backbone.learned_tokens, folder / FILE)  # type: ignore[arg-type]

    @staticmethod
    def of(folder: Path, name: str, asked: int) -> LearnedTokens | None:
        """Return those that a folder was exported with, or else as many new ones as are asked for; None for none.

        Raises:
            UsageError: if another number is asked for than the folder has.
        """
        found = count_in(folder)
        if found and asked not in (0, found):
            raise UsageError(
                f"expected learned_tokens of {found}, which {name} was exported with, or none; got {asked}. Set backbone.learned_tokens."
            )
        if found:
            return LearnedTokens(found, folder)
        return LearnedTokens(asked) if asked else None


class LearnedTable(nn.Module):
    """Trained input vectors (count, h) for tokens that a tokenizer has beyond its network's vocabulary.

    They lie beside the network, whose embedding keeps its size: full, adapted and frozen networks take them alike, a decoder and its
    base stay comparable, and an adapter names the base that is on the hub.

    Args:
        count: of tokens ``<EMBED0>``, ``<EMBED1>``, …; they are added to the tokenizer where they are not there yet.
        network: they begin at the mean of its input vectors.
        tokenizer: of the network.

    Raises:
        UsageError: if the count is negative or the tokenizer's own such tokens are others.

    Source: Deng et al. 2025, arXiv 2502.11401, section 3.2; Lester et al. 2021, arXiv 2104.08691, for a frozen network.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> backbone = TinyRandom("llama")
        >>> table = LearnedTable(2, backbone.network, backbone.tokenizer)
        >>> len(table), backbone.tokenizer.convert_ids_to_tokens(table.first)
        (2, '<EMBED0>')
    """

    def __init__(self, count: int, network: PreTrainedModel, tokenizer: Any) -> None:
        super().__init__()
        self.first = _add(tokenizer, count)
        self.table = nn.Parameter(_around_mean(network, count))

    def __len__(self) -> int:
        return len(self.table)

    def forward(self, embedding: nn.Module, input_ids: Tensor) -> Tensor:
        """Look up the input vectors of tokens, (b, L) -> (b, L, h), the learned ones here and the others in the network's embedding."""
        slot = input_ids - self.first
        learned = (slot >= 0) & (slot < len(self))
        found: Tensor = embedding(input_ids.masked_fill(learned, 0))
        return found.index_put((learned,), take(self.table, slot[learned]).to(found.dtype))


def count_in(folder: Path) -> int:
    """Return how many learned tokens an export holds; 0 for none.

    Example:
        >>> count_in(Path("no export"))
        0
    """
    from safetensors import safe_open

    if not (folder / FILE).is_file():
        return 0
    with safe_open(folder / FILE, framework="pt") as file:
        return file.get_slice("table").get_shape()[0]


def _add(tokenizer: Any, count: int) -> int:
    """Add the tokens to a tokenizer and return the id of the first; those of an earlier stage are there already."""
    from tokenizers import AddedToken

    found = learned_ids(tokenizer)
    if count < 1 or len(found) not in (0, count):
        raise UsageError(
            f"expected learned_tokens of at least 1, and as many tokenizer has already; got {count}, and it has {len(found)}. "
            "Set backbone.learned_tokens."
        )
    if not found:
        names = [LEARNED_TOKEN.format(i) for i in range(count)]
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        parse.cache_clear()
        found = learned_ids(tokenizer)
    if found != list(range(found[0], found[0] + count)):
        raise UsageError(
            f"expected the tokens {LEARNED_TOKEN.format(0)}, … one after the other in the tokenizer; their ids are {found}. Take them out of "
            "it, and let backbone.learned_tokens add them."
        )
    return found[0]


@torch.no_grad()
def _around_mean(network: PreTrainedModel, count: int) -> Tensor:
    embedding: Any = network.get_input_embeddings()
    # Looked up and not read off the weight: some networks scale what they look up.
    ids = torch.arange(embedding.weight.shape[0], device=network.device)
    total, square = torch.zeros(2, 1, device=network.device, dtype=torch.float64)
    for rows in ids.split(_ROWS):
        vectors = embedding(rows).double()
        total, square = total + vectors.sum(0), square + vectors.square().sum(0)
    mean = total / len(ids)
    spread = (square / len(ids) - mean.square()).clamp(min=0).sqrt()
    noise = torch.randn(count, mean.shape[0], dtype=torch.float64, device="cpu").to(mean.device)
    return (mean + _SPREAD * spread * noise).to(torch.promote_types(network.dtype, torch.float32))
