"""Views of a batch by name, for a term of a sum that does not see all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from inbatch.errors import UsageError
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

    Ids follow their texts. A score is that of anchor and positive, and stays with these two alone.

    Example:
        >>> seen = choose(Views("a", "p", ("n",), score=0.5), ["positive", "negative_1"])
        >>> seen.anchor, seen.positive, seen.negatives, seen.score
        ('p', 'n', (), None)
    """
    if chosen is None or views is None:
        return views
    payloads = dict(zip(views.names, views))
    anchor, positive, *negatives = (payloads[name] for name in chosen)
    score = views.score if set(chosen[:2]) == {"anchor", "positive"} else None
    ids = None if views.ids is None else choose(views.ids, chosen)
    return Views(anchor, positive, tuple(negatives), score, ids, views.instructions)


def check_names(chosen: Sequence[str], setting: str) -> None:
    """Refuse a choice that no rows can have.

    Raises:
        UsageError: if there are fewer than two names, or one twice, or one that names no view.

    Example:
        >>> check_names(["anchor", "positve"], "objective.views.pairs")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected names of views: anchor, positive, negative_1, …; got positve. Did you mean positive? Set
        objective.views.pairs.
    """
    for name in chosen:
        if not re.fullmatch(r"anchor|positive|negative_[1-9]\d*", name):
            raise UsageError(
                f"expected names of views: anchor, positive, negative_1, …; got {name}{suggest(name, names(1)) or '.'} Set {setting}."
            )
    if len(set(chosen)) < max(2, len(chosen)):
        raise UsageError(
            f"expected two or more different views, an anchor and what it is held against; got {', '.join(chosen) or 'none'}. Set {setting}."
        )


def require_names(chosen: Sequence[str], negatives: int, setting: str) -> None:
    """Refuse views that the rows of a run lack.

    Raises:
        UsageError: if there are any.

    Example:
        >>> require_names(["anchor", "negative_2"], 1, "objective.views.hard")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected views that every row has: anchor, positive, negative_1; got negative_2. Set
        objective.views.hard.
    """
    there = names(negatives)
    for name in chosen:
        if name not in there:
            raise UsageError(f"expected views that every row has: {', '.join(there)}; got {name}. Set {setting}.")
