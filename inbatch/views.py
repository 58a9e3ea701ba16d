"""The two containers that flow through inbatch: `Views` (the roles of one row) and `TokenBatch` (tokens of many texts)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

# Not frozen, although nothing changes them in place: the trainer's precisions of whole models (64-true, bf16-true) copy a batch field by
# field, and refuse a frozen one.
P = TypeVar("P")
R = TypeVar("R")


@dataclass
class Views(Generic[P]):
    """The roles that a row's texts play in a contrastive objective; the payload goes ``str -> TokenBatch -> Tensor``.

    Attributes:
        anchor: the query side.
        positive: what the anchor should be close to; in unsupervised training the same text again.
        negatives: hard negatives of each row, one payload a column; may be empty.
        score: similarity to the anchor where the data has one, float32, in the data's own unit: (b,) of the positive, or (b, 1+k), one a
            candidate: the positive, then the k negatives. An array until `to`.
        ids: one int64 (b,) a role: a non-negative 63-bit number that is equal where the texts are equal. -1 is the wildcard.
        instructions: what each row asks for, where the data says it: b strings, and (b,) int64 ids of them once they are part of the
            tokens.
        others: further texts of a row by their names: more positives (``positive_2``), phrases, a history, a context.
        labels: (b,) int64, at least 0: the class, cluster or language of a row, equal where the rows' labels are; ids of `info_nce`. An int
            where the payload is one row's text.
        source: (b,) int64: which source, from 0, a row is from.

    Example:
        >>> views = Views("a", "p", ("n",), others={"positive_2": "pp", "context": "c"})
        >>> views.names
        ('anchor', 'positive', 'negative_1', 'context', 'positive_2')
        >>> list(views.map(len))
        [1, 1, 1, 1, 2]
    """

    anchor: P
    positive: P
    negatives: tuple[P, ...] = ()
    score: Any = None
    ids: Views[Tensor] | None = None
    instructions: Any = None
    others: dict[str, P] = field(default_factory=dict)
    labels: Any = None
    source: Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the payloads are called, in the order of iteration: anchor, positive, negative_1, …, then the others' names."""
        numbered = (f"negative_{i + 1}" for i in range(len(self.negatives)))
        return ("anchor", "positive", *numbered, *sorted(self.others))

    def __iter__(self) -> Iterator[P]:
        """Iterate over the payloads: anchor, positive, the negatives, then the others in the order of their names."""
        yield self.anchor
        yield self.positive
        yield from self.negatives
        yield from (self.others[name] for name in sorted(self.others))

    def __len__(self) -> int:
        return 2 + len(self.negatives) + len(self.others)

    def map(self, function: Callable[[P], R]) -> Views[R]:
        """Apply ``function`` to each payload; what is no payload (score, ids, labels, …) stays as it is."""
        return self.replace_payloads([function(payload) for payload in self])

    def replace_payloads(self, payloads: Sequence[R]) -> Views[R]:
        """Put other payloads, in the order of iteration, into the same roles.

        Raises:
            ValueError: if their number is not that of the roles.
        """
        if len(payloads) != len(self):
            raise ValueError(f"expected {len(self)} payloads, one a role; got {len(payloads)}")
        stop = 2 + len(self.negatives)
        others = dict(zip(sorted(self.others), payloads[stop:]))
        negatives = tuple(payloads[2:stop])
        rest = (self.score, self.ids, self.instructions)
        return Views(payloads[0], payloads[1], negatives, *rest, others, self.labels, self.source)

    def chosen(self, names: Sequence[str]) -> Views[P]:
        """Take payloads by name: the first for the anchor, the second for the positive, the others for hard negatives.

        Ids follow their texts; labels, sources and instructions are the rows'. A score is that of anchor and positive, and stays with these
        two alone; where there is one a candidate, those of the negatives that are chosen stay, too, and (b,) is left of the positive alone.

        Example:
            >>> seen = Views("a", "p", ("n",), score=0.5).chosen(["positive", "negative_1"])
            >>> seen.anchor, seen.positive, seen.negatives, seen.score
            ('p', 'n', (), None)
        """
        payloads = dict(zip(self.names, self))
        anchor, positive, *negatives = (payloads[name] for name in names)
        ids = None if self.ids is None else self.ids.chosen(names)
        row = {"labels": self.labels, "source": self.source}
        return Views(anchor, positive, tuple(negatives), self._score_of(names), ids, self.instructions, **row)

    def _score_of(self, names: Sequence[str]) -> Any:
        if self.score is None or set(names[:2]) != {"anchor", "positive"}:
            return None
        if getattr(self.score, "ndim", 1) < 2:
            return self.score
        scored = self.names[1 : 2 + len(self.negatives)]
        if names[0] == "anchor" and set(names[1:]) <= set(scored):
            columns = [scored.index(name) for name in names[1:]]
            return self.score[:, columns] if len(columns) > 1 else self.score[:, 0]
        return self.score[:, 0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Views[P]:
        """Move payloads, score, ids, labels and sources to a device; a score is a tensor from here on."""

        def move(tensor: Any) -> Any:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        moved: Any = self.map(move)
        score = None if self.score is None else move(torch.as_tensor(self.score))
        ids = None if self.ids is None else self.ids.to(device, non_blocking)
        asked = move(self.instructions) if isinstance(self.instructions, Tensor) else self.instructions
        labels, source = move(self.labels), move(self.source)
        return dataclasses.replace(moved, score=score, ids=ids, instructions=asked, labels=labels, source=source)


@dataclass
class TokenBatch:
    """Tokens of b texts, padded to a common length L.

    Attributes:
        input_ids: (b, L) int64.
        attention_mask: (b, L) int64, 1 on tokens and 0 on padding.
        token_type_ids: (b, L) int64 or None.
        position_ids: (b, L) int64 or None; None leaves positions to the backbone.
        slots: named positions, e.g. ``{"mask": (b,)}``, int64 indices into L.
        seeds: (b,) int64 or None: what a text's dropout of a prefix is drawn from in every pass over it; None draws it anew.
        view: (b,) int64 or None: the number of the view that a text plays, in the order of `Views`: 0 for an anchor, 1 for a positive,
            from 2 on the others.

    Example:
        >>> batch = TokenBatch(torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0]]), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]))
        >>> batch.lengths
        tensor([3, 1])
        >>> batch.select(slice(1, 2)).trim().input_ids  # the padding goes with the longer text
        tensor([[8]])
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    position_ids: Tensor | None = None
    slots: dict[str, Tensor] = field(default_factory=dict)
    seeds: Tensor | None = None
    view: Tensor | None = None

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def lengths(self) -> Tensor:
        """(b,) int64: the number of tokens of each text."""
        return self.attention_mask.sum(1)

    def _map(
        self,
        matrix: Callable[[Tensor], Tensor],
        slot: Callable[[Tensor], Tensor],
        row: Callable[[Tensor], Tensor] = lambda t: t,
    ) -> TokenBatch:
        optional = [None if t is None else matrix(t) for t in (self.token_type_ids, self.position_ids)]
        slots = {name: slot(index) for name, index in self.slots.items()}
        seeds, view = (None if t is None else row(t) for t in (self.seeds, self.view))
        fixed = matrix(self.input_ids), matrix(self.attention_mask)
        return TokenBatch(*fixed, *optional, slots=slots, seeds=seeds, view=view)

    def select(self, rows: Tensor | slice) -> TokenBatch:
        """Take rows (an index tensor or a slice), keeping the padded length."""

        def pick(t: Tensor) -> Tensor:
            return t[rows]

        return self._map(pick, pick, pick)

    def trim(self) -> TokenBatch:
        """Cut the columns that are padding in every row, on whichever side they lie; slots follow."""
        used = self.attention_mask.any(0)
        if len(self) == 0 or bool(used.all()):
            return self
        columns = used.nonzero()
        first = int(columns[0]) if len(columns) else 0
        last = int(columns[-1]) + 1 if len(columns) else 1
        return self._map(lambda t: t[:, first:last], lambda t: t - first)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """Move all tensors to a device."""

        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=non_blocking)

        return self._map(move, move, move)

    @staticmethod
    def cat(batches: Sequence[TokenBatch], padding_side: str = "right", pad_token_id: int = 0) -> TokenBatch:
        """Stack the rows of several batches, padding each to the longest on ``padding_side``.

        Optional fields must be present in all of the batches or in none; of the slots those are kept that all have.
        """
        length = max(batch.input_ids.shape[1] for batch in batches)
        left = padding_side == "left"

        def stack(tensors: Sequence[Tensor], fill: int) -> Tensor:
            missing = [length - t.shape[1] for t in tensors]
            sides = [(m, 0) if left else (0, m) for m in missing]
            return torch.cat([torch.nn.functional.pad(t, side, value=fill) for t, side in zip(tensors, sides)])

        def optional(name: str, join: Callable[[list[Tensor]], Tensor]) -> Tensor | None:
            tensors = [t for batch in batches if (t := getattr(batch, name)) is not None]
            if 0 < len(tensors) < len(batches):
                raise ValueError(f"expected {name} in all batches or in none; {len(tensors)} of {len(batches)} have it")
            return join(tensors) if tensors else None

        names = set.intersection(*(set(batch.slots) for batch in batches))
        shift = [length - batch.input_ids.shape[1] if left else 0 for batch in batches]
        return TokenBatch(
            stack([batch.input_ids for batch in batches], pad_token_id),
            stack([batch.attention_mask for batch in batches], 0),
            optional("token_type_ids", lambda tensors: stack(tensors, 0)),
            optional("position_ids", lambda tensors: stack(tensors, 0)),
            {name: torch.cat([b.slots[name] + s for b, s in zip(batches, shift)]) for name in sorted(names)},
            optional("seeds", torch.cat),
            optional("view", torch.cat),
        )
