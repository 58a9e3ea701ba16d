"""Numbers that tell which texts of a step are the same, so that no text is its own negative."""

from __future__ import annotations

import torch
from torch import Tensor

from inbatch.text.ids import text_id
from inbatch.views import Views

# Position ids leave room for that many views of one row.
_MOST_VIEWS = 1 << 16


def text_ids(views: Views[list[str]]) -> Views[Tensor]:
    """Give equal texts equal ids, (b,) int64 a view.

    Example:
        >>> ids = text_ids(Views(["a", "b"], ["b", "c"]))
        >>> bool(ids.anchor[1] == ids.positive[0])
        True
    """
    return _roles(views).replace_payloads([torch.tensor([text_id(text) for text in texts]) for texts in views])


def position_ids(views: Views[list[str]], position: int) -> Views[Tensor]:
    """Give every text of a run an id of its own, (b,) int64 a view, unique over steps, ranks and views.

    Args:
        views: texts of b rows.
        position: rows seen by all ranks before the first of these.

    Example:
        >>> position_ids(Views(["a"], ["a"]), 0).positive
        tensor([1])
    """
    first = torch.arange(position, position + len(views.anchor)) * _MOST_VIEWS
    return _roles(views).replace_payloads([first + number for number in range(len(views))])


def _roles(views: Views[list[str]]) -> Views[list[str]]:
    """Return the texts without what stands beside them."""
    return Views(views.anchor, views.positive, views.negatives, others=views.others)
