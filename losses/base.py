"""The contract of every objective: embeddings of all views in, one differentiable scalar and numbers to log out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from inbatch.kernels.distributed.gather import world_size
from inbatch.losses.side_networks import evaluated_once
from inbatch.views import TokenBatch, Views

ROWS_WITHOUT_NEGATIVES = "rows_without_negatives"
"""The tag under which an objective that contrasts logs how many rows of the batch had no negative."""


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns.

    Attributes:
        loss: 0-d tensor with gradient. Averaging it over ranks, as DDP averages gradients, gives the loss of the global batch.
        logs: detached numbers for the logger, by tag (without the ``train/`` prefix); every rank has the same tags, in the same order,
            and what is logged is the mean over ranks.
    """

    loss: Tensor
    logs: dict[str, Tensor | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """What an encoder's pass gave of one view, for an objective that reads more than embeddings.

    Attributes:
        vector: (b, d), the embeddings, as in ``z``.
        reads: by name, with gradient, 0 where there is no token of a text. L is the length to which the view's tokens are padded, h the
            network's width and n its number of layers.

            - ``layer:k``: (b, L, h), what layer k puts out; 0 is the embeddings, n or -1 the last layer.
            - ``layers``: (b, n + 1, L, h), all of them.
            - ``tokens``: (b, L, h), the states that the encoder pools.
            - ``attentions:k``: (b, heads, L, L), how much each token (of the third axis) looks at each (of the fourth) in the layer that
              puts out ``layer:k``.
        lengths: (b,) int64, the number of tokens of each text.
    """

    vector: Tensor
    reads: dict[str, Tensor]
    lengths: Tensor


@dataclass(frozen=True)
class BatchFacts:
    """What every batch of a run is like, known before the first one.

    Attributes:
        rows: of one rank, in a full batch.
        negatives: hard negatives a row, of the source that has fewest.
        scored: whether every row has a score.
        pairs: gives the ids of the rows' texts: (n, 3) int64, an anchor's, that of a text it may be paired with, and that of the
            instruction or 0, for all rows.
        by_text: whether a text's id depends on the text alone.
        altered: whether texts are altered after their ids were given, as by repeated words.
        lengths: tokens kept of a ``query`` and of a ``document``; of the text alone where it stands in a template.
        precision: the trainer's.
        most_scores: the most scores of one row, in any source: 0, 1, or 1+k where each candidate has one.
    """

    rows: int
    negatives: int
    scored: bool
    pairs: Callable[[], Tensor] | None = None
    by_text: bool = True
    altered: bool = False
    lengths: Mapping[str, int] = field(default_factory=dict)
    precision: str = ""
    most_scores: int = 0

    @property
    def some_scored(self) -> bool:
        """Whether rows of some source have scores; batches of one source each may be all with, or all without."""
        return self.scored or self.most_scores > 0

    def of(self, views: Sequence[str] | None) -> BatchFacts:
        """Return what an objective finds that sees only these views, in this order; None sees all."""
        if views is None:
            return self
        told = set(views[:2]) == {"anchor", "positive"}
        scores = min(self.most_scores, len(views) - 1 if views[0] == "anchor" else 1) if told else 0
        return replace(self, negatives=len(views) - 2, scored=self.scored and told, most_scores=scores)


@dataclass(frozen=True)
class Term:
    """An objective inside of another.

    Attributes:
        objective: the inner one.
        weight: what its loss is multiplied by; a number, or a function of the optimizer step.
        views: names of the views that it sees, its anchor first; None for all.
    """

    objective: Objective
    weight: float | Callable[[int], float] = 1.0
    views: tuple[str, ...] | None = None


class Objective(nn.Module):
    """Base class of all objectives.

    An objective sees the whole batch of this rank at once. It owns what exists in training only (projectors, side networks,
    learnt temperatures), never the encoder: the live encoder is passed at each call, for terms that run it again.

    Attributes:
        in_batch: whether rows of the batch are negatives of each other.
        takes_prefixes: whether prefixes of the embeddings would do in their place, as `Matryoshka` gives them.
        takes_projected: whether what a `WeightedSum` has projected would do.
        takes_states: whether the embeddings are to be the states at the encoder's learned tokens, (b, k, h) each, in place of (b, d).
        encoded: how many of the views the encoder embeds, in their order; None for all, 0 for none. The others reach the objective as tokens
            only.
        passes: in words, what runs through networks besides the encoder's one pass over all views; empty for nothing.
        reads: what it reads of the encoder's pass beside the embeddings, see `Encoded`; the encoder runs once, whatever is read.
        encodings: while the loss is computed, the views' `Encoded` with what `reads` names; None for an objective that reads nothing.
        same_prefix_dropout: whether its own passes through the encoder's network take the dropout of a prefix that the encoder's pass drew.
        step: optimizer steps that were taken before this one; set by the module, so that a resumed run knows it.
        chunk_tokens: padded tokens that a chunk of gradient caching may hold; the module's own number.
        queue_size: embeddings of earlier batches that are candidates, too, once there are so many.
        moves_frozen: whether parameters of it change that no gradient reaches, as averages do that follow the encoder.
        projector: a module of training only, between the encoder and this objective; None for none.
    """

    in_batch: bool = False
    takes_prefixes: bool = True
    takes_projected: bool = True
    takes_states: bool = False
    encoded: int | None = None
    passes: str = ""
    reads: frozenset[str] = frozenset()
    encodings: Views[Encoded] | None = None
    same_prefix_dropout: bool = False
    step: int = 0
    chunk_tokens: int | None = None
    queue_size: int = 0
    moves_frozen: bool = False
    projector: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.projector = None  # not of the class, where it would hide the module that an instance has

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`; whatever is asked of a frozen network inside is computed once, see `embed_frozen`."""
        with evaluated_once():
            return super().__call__(*args, **kwargs)

    def inner(self) -> dict[str, Term]:
        """Return the objectives directly inside of this one, by name."""
        return {name: Term(child) for name, child in _nearest(self)}

    def attach(self, encoder: Any) -> None:
        """Meet the encoder, once, before training: refuse one that does not fit, copy what is needed of it.

        Raises:
            UsageError: if the encoder does not fit.
        """

    def check(self, batch: BatchFacts) -> None:
        """Refuse data that the objective cannot use, before the first step.

        Raises:
            UsageError: if the batches lack what the objective needs.
        """

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Compute the loss of one batch.

        Args:
            z: embeddings of this rank's rows, (b, d) each.
            tokens: the same rows as tokens.
            encoder: the live encoder; its parameters are not the objective's.
        """
        raise NotImplementedError


def parts(objective: nn.Module) -> Iterator[Objective]:
    """Iterate over an objective and all objectives inside of it."""
    return (part for part in objective.modules() if isinstance(part, Objective))


def check_all(objective: Objective, batch: BatchFacts) -> None:
    """Let an objective and all inside of it refuse data, each by the views that it sees.

    Raises:
        UsageError: if the batches lack what one of them needs.
    """
    objective.check(batch)
    for term in objective.inner().values():
        check_all(term.objective, batch.of(term.views))


def contrasted_views(objective: Objective, views: int) -> int:
    """Count the views of a batch, which has so many, that rows are contrasted in: the most of any objective inside; 0 for none."""
    inner = [
        contrasted_views(term.objective, views if term.views is None else len(term.views))
        for term in objective.inner().values()
    ]
    return max([views if objective.in_batch else 0, *inner])


def describe(objective: Objective) -> str:
    """Name an objective and those inside of it, with their weights, such as ``WeightedSum of InfoNCE, 10 × EnergyHinge``."""
    inner = []
    for term in objective.inner().values():
        weight = term.weight
        factor = "" if weight == 1 else f"{weight:g} × " if isinstance(weight, float | int) else "falling weight × "
        seen = "" if term.views is None else f" on ({', '.join(term.views)})"
        inner.append(factor + describe(term.objective) + seen)
    return type(objective).__name__ + (f" of {', '.join(inner)}" if inner else "")


def project(z: Views[Tensor], projector: nn.Module | None) -> Views[Tensor]:
    """Apply a projector to all views in one call, so that the statistics of a batch norm are those of all views."""
    if projector is None:
        return z
    return z.replace_payloads(projector(torch.cat(list(z))).split([len(view) for view in z]))


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by its count so that the average over ranks is the mean over the global batch; 0 where nothing is counted.

    Args:
        total: 0-d, this rank's sum, with gradient.
        count: 0-d, how many items it sums.
    """
    count = count.detach().to(total.dtype)
    if world_size() > 1:
        count = count.clone()
        torch.distributed.all_reduce(count)
    return total * world_size() / count.clamp(min=1)


def _nearest(module: nn.Module) -> Iterator[tuple[str, Objective]]:
    for name, child in module.named_children():
        if isinstance(child, Objective):
            yield name, child
        else:
            yield from _nearest(child)
