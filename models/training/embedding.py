"""One pass of the encoder over all views of a batch, in chunks, with what the objective reads beside the embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from inbatch.kernels import map_in_chunks
from inbatch.kernels.caching import padding_share
from inbatch.losses.base import Encoded, parts
from inbatch.models.reads import cut, padded
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.losses.base import Objective
    from inbatch.models.encoder import Encoder


@dataclass(frozen=True)
class Embedded:
    """What the encoder's pass gave.

    Attributes:
        z: embeddings of each view; None for those that the objective does not have embedded.
        encodings: the same with what was read beside them; None where nothing is.
        count: how many views were embedded.
        padding: which share of the tokens that were computed was padding.

    Example:
        >>> Embedded(Views(None, None), None, 0, 0.0).count
        0
    """

    z: Views[Any]
    encodings: Views[Any] | None
    count: int
    padding: float


def number_views(batch: Views[TokenBatch]) -> Views[TokenBatch]:
    """Write into each view's tokens which view they play, see `TokenBatch.view`.

    Example:
        >>> import torch
        >>> tokens = TokenBatch(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64))
        >>> number_views(Views(tokens, tokens)).positive.view
        tensor([1, 1])
    """
    numbered = [
        replace(tokens, view=tokens.input_ids.new_full((len(tokens),), number)) for number, tokens in enumerate(batch)
    ]
    return batch.replace_payloads(numbered)


def embed_views(encoder: Encoder, objective: Objective, batch: Views[TokenBatch], budget: int | None) -> Embedded:
    """Embed all views in one pass, as chunks of gradient caching.

    What is read lies in memory from here to the end of the backward pass, with its gradient: b L h numbers for ``tokens`` or
    ``layer:k``, (n + 1) times as many for ``layers``, b heads L² for ``attentions:k``, b k h for ``states_at_learned``, with b all texts of the batch and L the longest.

    Args:
        encoder: the live one.
        objective: says which views it has embedded and what it reads.
        batch: tokens.
        budget: padded tokens a chunk may hold; None for one chunk.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> from inbatch.text.tokens import tokenize
        >>> encoder = Encoder(TinyRandom())
        >>> tokens = tokenize(encoder.tokenizer, ["two", "texts"])
        >>> embed_views(encoder, InfoNCE(), Views(tokens, tokens), budget=16).z.anchor.shape
        torch.Size([2, 32])
    """
    views = list(batch)[: objective.encoded]
    rest = [None] * (len(batch) - len(views))
    names = sorted(frozenset().union(*(part.reads for part in parts(objective))))
    if not views:
        return Embedded(batch.replace_payloads(rest), None, 0, 0.0)
    tokenizer = encoder.tokenizer
    merged = TokenBatch.cat(views, tokenizer.padding_side, tokenizer.pad_token_id)
    biases = encoder.biases(batch)
    given = [] if biases is None else [biases]
    padding = padding_share(merged.lengths, budget)
    sizes = [len(view) for view in views]
    if not names:
        z = map_in_chunks(encoder, merged, *given, budget=budget)
        return Embedded(batch.replace_payloads([*z.split(sizes), *rest]), None, len(views), padding)
    side, length = tokenizer.padding_side, merged.input_ids.shape[1]

    def read(tokens: TokenBatch, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        vector, found = encoder.read(tokens, names, bias)
        return (vector, *(padded(name, found[name], tokens, length, side) for name in names))

    vectors, *found = map_in_chunks(read, merged, *given, budget=budget)
    z, encodings = vectors.split(sizes), []
    columns = [column.split(sizes) for column in found]
    for number, view in enumerate(views):
        reads = {name: cut(name, c[number], view.input_ids.shape[1], side) for name, c in zip(names, columns)}
        encodings.append(Encoded(z[number], reads, view.lengths))
    read_views = batch.replace_payloads([*encodings, *rest])
    return Embedded(batch.replace_payloads([*z, *rest]), read_views, len(views), padding)


@contextmanager
def handed(objective: Objective, encodings: Views[Any] | None) -> Iterator[None]:
    """Hand each objective, and those inside of it, what it asked for and no more, until its loss is computed.

    Example:
        >>> from inbatch.losses.contrastive.infonce import InfoNCE
        >>> objective = InfoNCE()
        >>> objective.reads = frozenset({"tokens"})
        >>> import torch
        >>> both = Encoded(torch.ones(1, 2), {"tokens": torch.ones(1, 3, 2), "layer:0": torch.ones(1, 3, 2)}, torch.tensor([3]))
        >>> with handed(objective, Views(both, both)):
        ...     sorted(objective.encodings.anchor.reads)
        ['tokens']
        >>> objective.encodings is None
        True
    """
    readers = [] if encodings is None else [found for found in _seen(objective, encodings) if found[0].reads]
    for part, seen in readers:
        own = [
            None if e is None else replace(e, reads={name: e.reads[name] for name in sorted(part.reads)}) for e in seen
        ]
        handing: Any = seen.replace_payloads(own)
        part.encodings = handing
    try:
        yield
    finally:
        for part, _ in readers:
            part.encodings = None


def _seen(objective: Objective, encodings: Views[Any]) -> Iterator[tuple[Objective, Views[Any]]]:
    """Go through an objective and those inside of it, with the views that each one sees, in the roles that they play there."""
    yield objective, encodings
    for term in objective.inner().values():
        seen = encodings if term.views is None else encodings.chosen(term.views)
        yield from _seen(term.objective, seen)
