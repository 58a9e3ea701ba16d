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

    Example:
        >>> from inbatch.losses import InfoNCE
        >>> z = Views(torch.eye(2), torch.eye(2))
        >>> output = InfoNCE(temperature=0.5)(z, None, None)
        >>> round(output.loss.item(), 4)  # log(1 + e^-2)
        0.1269
        >>> {tag: float(number) for tag, number in output.logs.items()}
        {'positive_similarity': 1.0, 'temperature': 0.5, 'rows_without_negatives': 0.0}
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
            - ``states_at_learned``: (b, k, h), the states that the encoder pools at its k learned tokens, one by one.
        lengths: (b,) int64, the number of tokens of each text.

    Example:
        >>> states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]])  # two tokens of a text, and padding
        >>> view = Encoded(torch.tensor([[2.0, 3.0]]), {"tokens": states}, torch.tensor([2]))
        >>> view.reads["tokens"].sum(1) / view.lengths[:, None]  # here the encoder pools by the mean
        tensor([[2., 3.]])
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
        others: names of the further texts that every row has.

    Example:
        >>> facts = BatchFacts(rows=64, negatives=3, scored=True)
        >>> seen = facts.of(["anchor", "negative_1", "negative_2"])  # negative_1 is the positive now, and has no score
        >>> seen.negatives, seen.scored
        (1, False)
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
    others: tuple[str, ...] = ()

    @property
    def some_scored(self) -> bool:
        """Whether rows of some source have scores; batches of one source each may be all with, or all without."""
        return self.scored or self.most_scores > 0

    def of(self, views: Sequence[str] | None) -> BatchFacts:
        """Return what an objective finds that sees only these views, in this order; None sees all."""
        if views is None:
            return self
        told = set(views[:2]) == {"anchor", "positive"}
        several = views[0] == "anchor" and not set(views) & set(self.others)
        scores = min(self.most_scores, len(views) - 1 if several else 1) if told else 0
        return replace(self, negatives=len(views) - 2, scored=self.scored and told, most_scores=scores, others=())


@dataclass(frozen=True)
class Term:
    """An objective inside of another.

    Attributes:
        objective: the inner one.
        weight: what its loss is multiplied by; a number, or a function of the optimizer step.
        views: names of the views that it sees, its anchor first; None for all.

    Example:
        >>> from inbatch.losses import EnergyHinge, InfoNCE, WeightedSum
        >>> method = WeightedSum({"pairs": InfoNCE(), "hard": EnergyHinge()}, {"hard": 10.0}, views={"pairs": ["anchor", "positive"]})
        >>> terms = method.inner()
        >>> terms["pairs"].weight, terms["pairs"].views
        (1.0, ('anchor', 'positive'))
        >>> terms["hard"].weight, terms["hard"].views
        (10.0, None)
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

    Example:
        >>> class Distance(Objective):
        ...     def forward(self, z, tokens, encoder):
        ...         return LossOutput((z.anchor - z.positive).square().sum(1).mean())
        >>> Distance()(Views(torch.zeros(2, 3), torch.ones(2, 3)), None, None).loss
        tensor(3.)
    """

    in_batch: bool = False
    takes_prefixes: bool = True
    takes_projected: bool = True
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
    """Iterate over an objective and all objectives inside of it.

    Example:
        >>> from inbatch.losses import InfoNCE, Matryoshka
        >>> [type(part).__name__ for part in parts(Matryoshka(InfoNCE(), dims=[64, 32]))]
        ['Matryoshka', 'InfoNCE']
    """
    return (part for part in objective.modules() if isinstance(part, Objective))


def check_all(objective: Objective, batch: BatchFacts) -> None:
    """Let an objective and all inside of it refuse data, each by the views that it sees.

    Raises:
        UsageError: if the batches lack what one of them needs.

    Example:
        >>> from inbatch.losses import EnergyHinge, InfoNCE, WeightedSum
        >>> method = WeightedSum({"pairs": InfoNCE(), "hard": EnergyHinge()})
        >>> check_all(method, BatchFacts(rows=64, negatives=0, scored=False))
        Traceback (most recent call last):
        inbatch.errors.UsageError: EnergyHinge expects a hard negative in every row; the data has none. Give data.sources a third
        column (columns: {anchor: NAME, positive: NAME, negatives: [NAME]}), or choose an objective without one.
    """
    objective.check(batch)
    for term in objective.inner().values():
        check_all(term.objective, batch.of(term.views))


def contrasted_views(objective: Objective, views: int) -> int:
    """Count the views of a batch, which has so many, that rows are contrasted in: the most of any objective inside; 0 for none.

    Example:
        >>> from inbatch.losses import CoSENT, InfoNCE, WeightedSum
        >>> method = WeightedSum({"pairs": InfoNCE()}, views={"pairs": ["anchor", "positive"]})
        >>> contrasted_views(InfoNCE(), 5), contrasted_views(method, 5), contrasted_views(CoSENT(), 5)
        (5, 2, 0)
    """
    inner = [
        contrasted_views(term.objective, views if term.views is None else len(term.views))
        for term in objective.inner().values()
    ]
    return max([views if objective.in_batch else 0, *inner])


def describe(objective: Objective) -> str:
    """Name an objective and those inside of it, with their weights, such as ``WeightedSum of InfoNCE, 10 × EnergyHinge``.

    Example:
        >>> from inbatch.losses import Decay, EnergyHinge, InfoNCE, WeightedSum
        >>> terms = {"pairs": InfoNCE(), "hard": EnergyHinge()}
        >>> describe(WeightedSum(terms, {"hard": Decay(10.0, 0.5, every=100)}, views={"pairs": ["anchor", "positive"]}))
        'WeightedSum of InfoNCE on (anchor, positive), falling weight × EnergyHinge'
    """
    inner = []
    for term in objective.inner().values():
        weight = term.weight
        factor = "" if weight == 1 else f"{weight:g} × " if isinstance(weight, float | int) else "falling weight × "
        seen = "" if term.views is None else f" on ({', '.join(term.views)})"
        inner.append(factor + describe(term.objective) + seen)
    return type(objective).__name__ + (f" of {', '.join(inner)}" if inner else "")


def project(z: Views[Tensor], projector: nn.Module | None) -> Views[Tensor]:
    """Apply a projector to all views in one call, so that the statistics of a batch norm are those of all views.

    Example:
        >>> z = Views(torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [3.0]]))
        >>> z = project(z, nn.BatchNorm1d(1, affine=False))  # the mean of both views is 2; by itself, each view would become zeros
        >>> z.anchor.flatten().round(), z.positive.flatten().round()
        (tensor([-1., -1.]), tensor([1., 1.]))
    """
    if projector is None:
        return z
    return z.replace_payloads(projector(torch.cat(list(z))).split([len(view) for view in z]))


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """Divide a sum by its count so that the average over ranks is the mean over the global batch; 0 where nothing is counted.

    Args:
        total: 0-d, this rank's sum, with gradient.
        count: 0-d, how many items it sums.

    Example:
        >>> mean_over_ranks(torch.tensor(6.0), torch.tensor(3))
        tensor(2.)
        >>> mean_over_ranks(torch.tensor(0.0), torch.tensor(0))  # such as no token that was masked
        tensor(0.)
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
