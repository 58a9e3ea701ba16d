"""Names of views, for a term of a sum that does not see all of them; see `inbatch.views.Views.chosen`."""

from __future__ import annotations

from collections.abc import Sequence

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.spelling import suggest


def names(negatives: int) -> list[str]:
    """Name the views of rows with so many hard negatives: ``anchor``, ``positive``, ``negative_1``, …, in the order of iteration.

    Example:
        >>> names(2)
        ['anchor', 'positive', 'negative_1', 'negative_2']
    """
    return ["anchor", "positive", *(f"negative_{number + 1}" for number in range(negatives))]


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
