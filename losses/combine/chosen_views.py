"""Views of a batch by name, for a term of a sum that does not see all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from inbatch.errors import UsageError
from inbatch.spelling import suggest
from inbatch.views import Views


def names(negatives: int) -> list[str]:
    """Name the views of rows with so many hard negatives: ``anchor``, ``positive``, ``negative_1``, …, in the order of iteration."""
    return ["anchor", "positive", *(f"negative_{number + 1}" for number in range(negatives))]


def choose(views: Views[Any], chosen: Sequence[str] | None) -> Views[Any]:
    """Take views by name: the first for the anchor, the second for the positive, the others for hard negatives; None takes all.

    Ids follow their texts; labels and sources are of the whole row. A score is that of anchor and positive, and stays with these two
    alone; of one score a candidate each follows its text while the anchor stays the anchor.

    Example:
        >>> choose(Views("a", "p", ("n",), score=0.5), ["positive", "negative_1"])
        Views(anchor='p', positive='n', negatives=(), score=None, ids=None, instructions=None, others={}, labels=None, source=None)
    """
    if chosen is None or views is None:
        return views
    payloads = dict(zip(views.names, views))
    anchor, positive, *negatives = (payloads[name] for name in chosen)
    score = _score(views.score, chosen) if set(chosen[:2]) == {"anchor", "positive"} else None
    ids = None if views.ids is None else choose(views.ids, chosen)
    rest = (score, ids, views.instructions)
    return Views(anchor, positive, tuple(negatives), *rest, labels=views.labels, source=views.source)


def _score(score: Any, chosen: Sequence[str]) -> Any:
    """Take the scores of the chosen candidates, where there is one a candidate; (b,) of the positive where it is the only one."""
    if getattr(score, "ndim", 0) < 2:
        return score
    negatives = chosen[2:] if chosen[0] == "anchor" else ()
    columns = [0, *(int(name.removeprefix("negative_")) for name in negatives)]
    return score[:, columns] if len(columns) > 1 else score[:, 0]


def check_names(chosen: Sequence[str], setting: str) -> None:
    """Refuse a choice that no rows can have.

    Raises:
        UsageError: if there are fewer than two names, or one twice, or one that names no view.
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
    """
    there = names(negatives)
    for name in chosen:
        if name not in there:
            raise UsageError(f"expected views that every row has: {', '.join(there)}; got {name}. Set {setting}.")
