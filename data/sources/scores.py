"""Check the scores of a table: a number a row, or one of each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from inbatch.data.formats.arrow import arrow_kind
from inbatch.data.formats.columns import TEXTS, Roles
from inbatch.errors import UsageError

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_A_BATCH = 10_000
# Its functions are made when it is imported, where no type checker sees them.
pc: Any = pyarrow.compute


def check_scores(name: str, rows: Dataset, columns: Sequence[str], roles: Roles) -> None:
    """Refuse scores that are no finite numbers, and lists of them with another length than the row has candidates.

    Args:
        name: the source's name, for messages.
        rows: the columns that ``roles`` names.
        columns: those of scores: numbers, or one of lists of numbers as texts.
        roles: found in the source.

    Raises:
        UsageError: naming the first such row.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"one": ["tea", "milk"], "two": ["green tea", "shoes"], "score": [4.5, float("nan")]})
        >>> check_scores("drinks", rows, ["score"], Roles("one", "two", score="score"))
        Traceback (most recent call last):
        inbatch.errors.UsageError: drinks, row 2: expected a number in the score column score; got nan.
    """
    for column in columns:
        lists = arrow_kind(rows.features.arrow_schema.field(column).type) == TEXTS
        used = [column, *((str(roles.positive), *roles.negatives) if lists else ())]
        before = 0
        parts: Any = rows.select_columns(list(dict.fromkeys(used)))
        for part in parts.with_format("arrow").iter(_ROWS_A_BATCH):
            if lists:
                _check_lists(name, part, column, roles, before)
            else:
                numbers = part[column].cast(pa.float64()).fill_null(np.nan).to_numpy()
                _refuse(name, column, before, np.isfinite(numbers), numbers)
            before += len(part)


def _check_lists(name: str, part: Any, column: str, roles: Roles, before: int) -> None:
    lists = part[column].combine_chunks()
    if arrow_kind(part.schema.field(roles.positive).type) == TEXTS:
        raise UsageError(
            f"{name}: expected one positive a row beside the lists of scores in the column {column}, as which of several a score is of is not "
            "said; got lists of them. Set columns.positive to single texts, or columns.score to numbers."
        )
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    candidates = np.full(len(lists), 1 + len(roles.negatives))
    if len(roles.negatives) == 1 and arrow_kind(part.schema.field(roles.negatives[0]).type) == TEXTS:
        drawn = pc.list_value_length(part[roles.negatives[0]].combine_chunks()).fill_null(0)
        candidates = 1 + drawn.to_numpy(zero_copy_only=False)
    if (wrong := np.flatnonzero(lengths != candidates)).size:
        row = wrong[0]
        raise UsageError(
            f"{name}, row {before + row + 1}: expected {candidates[row]} scores in the column {column}, of the positive and of each hard "
            f"negative; got {lengths[row]}. Mend the row, or set columns.score."
        )
    cells = lists.to_pylist()
    good = [all(_is_finite(number) for number in cell) for cell in cells]
    _refuse(name, column, before, np.array(good), cells)


def _refuse(name: str, column: str, before: int, good: np.ndarray, cells: Any) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise UsageError(
            f"{name}, row {before + row + 1}: expected a number in the score column {column}; got {cells[row]}."
        )


def _is_finite(number: str | None) -> bool:
    try:
        return number is not None and bool(np.isfinite(float(number)))
    except ValueError:
        return False
