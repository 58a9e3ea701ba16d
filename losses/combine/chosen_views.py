"""Views of a batch by name, for a term of a sum that does not see all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.spelling import suggest
from inbatch.views import Views


def names(negatives: int) -> list[str]:
    """Name the views of rows with so many hard negatives: ``anchor``, ``positive``, ``negative_1``, …, in the order of iteration.

    Example:
        >>> names(2)
        ['anchor', 'positive', 'negative_1', 'negative_2']
    """
    return ["anchor", "positive", *(f"negative_{number + 1}" for number in range(negatives))]


def choose(views: Views[Any], chosen: Sequence[str] | None) -> Views[Any]:
    """Take views by name: the first for the anchor, the second for the positive, the others for hard negatives; None takes all.

    Ids follow their texts; labels, sources and instructions are the rows'. A score is that of anchor and positive, and stays with these two
    alone; where there is one a candidate, those of the negatives that are chosen stay, too, and (b,) is left of the positive alone.

    Example:
        >>> seen = choose(Views("a", "p", ("n",), score=0.5), ["positive", "negative_1"])
        >>> seen.anchor, seen.positive, seen.negatives, seen.score
        ('p', 'n', (), None)
    """
    if chosen is None or views is None:
        return views
    payloads = dict(zip(views.names, views))
    anchor, positive, *negatives = (payloads[name] for name in chosen)
    ids = None if views.ids is None else choose(views.ids, chosen)
    row = {"labels": views.labels, "source": views.source}
    return Views(anchor, positive, tuple(negatives), _score(views, chosen), ids, views.instructions, **row)


def _score(views: Views[Any], chosen: Sequence[str]) -> Any:
    if views.score is None or set(chosen[:2]) != {"anchor", "positive"}:
        return None
    if getattr(views.score, "ndim", 1) < 2:
        return views.score
    scored = views.names[1 : 2 + len(views.negatives)]
    if chosen[0] == "anchor" and set(chosen[1:]) <= set(scored):
        columns = [scored.index(name) for name in chosen[1:]]
        return views.score[:, columns] if len(columns) > 1 else views.score[:, 0]
    return views.score[:, 0]


def check_names(chosen: Sequence[str], setting: str) -> None:
    """Refuse a choice that no rows can have.

    Raises:
        UsageError: if there are fewer than two names, or one twice.

    Example:
        >>> check_names(["anchor"], "objective.views.pairs")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected two or more different views, an anchor and what it is held against; got anchor. Set
        objective.views.pairs.
    """
    if len(set(chosen)) < max(2, len(chosen)):
        raise UsageError(
            f"expected two or more different views, an anchor and what it is held against; got {', '.join(chosen) or 'none'}. Set {setting}."
        )


def require_names(chosen: Sequence[str], batch: BatchFacts, setting: str) -> None:
    """Refuse views that the rows of a run lack.

    Raises:
        UsageError: if there are any.

    Example:
        >>> require_names(["anchor", "negative_2"], BatchFacts(rows=8, negatives=1, scored=False), "objective.views.hard")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected views that every row has: anchor, positive, negative_1; got negative_2. Did
        you mean negative_1? Set objective.views.hard.
    """
    there = [*names(batch.negatives), *batch.others]
    for name in chosen:
        if name not in there:
            hint = suggest(name, there) or "."
            raise UsageError(f"expected views that every row has: {', '.join(there)}; got {name}{hint} Set {setting}.")
