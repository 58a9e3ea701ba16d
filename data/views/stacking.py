"""Views of single rows, stacked to the views of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from inbatch.errors import UsageError
from inbatch.views import Views


def stack(rows: Sequence[Views[str]]) -> Views[list[str]]:
    """Stack the views of b rows: a list of b texts a role, scores (b,) or (b, 1+k) float32, labels (b,) int64.

    Roles whose texts are the same objects in every row get one list, so that it is tokenized once.

    Args:
        rows: at least one.

    Raises:
        UsageError: if the rows do not have the same texts, scores and labels.

    Example:
        >>> stack([Views("a", "b", score=0.5), Views("c", "d", score=1.0)]).positive
        ['b', 'd']
    """
    first = shape(rows[0])
    for number, row in enumerate(rows):
        if shape(row) != first:
            raise UsageError(
                f"expected every row of a batch to have {_said(rows[0])}; row {number + 1} has {_said(row)}. Mend the class in view "
                "on data.sources, or the rows, or set its negatives."
            )
    columns: list[list[str]] = []
    for texts in zip(*rows):
        same = next((done for done in columns if all(a is b for a, b in zip(done, texts))), None)
        columns.append(list(texts) if same is None else same)
    payloads = replace(rows[0], score=None, labels=None).replace_payloads(columns)
    score = None if rows[0].score is None else torch.tensor([row.score for row in rows], dtype=torch.float32)
    labels = None if rows[0].labels is None else torch.tensor([row.labels for row in rows], dtype=torch.int64)
    return replace(payloads, score=score, labels=labels)


def shape(row: Views[Any]) -> tuple[int, Any, int, bool]:
    """Return what a row has: the number of its hard negatives, the names of its others, the number of its scores (0: none; -1: one that
    is no list), whether a label.

    Every row of a batch is asked: no text is put together here.

    Example:
        >>> negatives, others, scores, labelled = shape(Views("Do you ship?", "Yes.", ("At nine.",), score=0.5))
        >>> negatives, list(others), scores, labelled
        (1, [], -1, False)
    """
    scores = 0 if row.score is None else len(row.score) if isinstance(row.score, (list, tuple)) else -1
    return len(row.negatives), row.others.keys(), scores, row.labels is not None


def _said(row: Views[Any]) -> str:
    _, _, scores, labelled = shape(row)
    parts = [*row.names, *([f"{abs(scores)} scores"] if scores else []), *(["a label"] if labelled else [])]
    return ", ".join(parts)
