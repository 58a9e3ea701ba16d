"""Make a table of rows ready for training: its view, its empty texts, its hard negatives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute

from inbatch.data.formats.arrow import arrow_kind
from inbatch.data.formats.columns import TEXTS, Roles
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

View = Literal["auto", "same", "pair", "triplet", "scored"]

_ROWS_A_BATCH = 10_000
# Its functions are made when it is imported, where no type checker sees them.
pc: Any = pyarrow.compute


@dataclass(frozen=True)
class Table:
    """The rows of one source, ready to be read.

    Attributes:
        name: the source's name, for messages.
        rows: memory-mapped; ``rows[[3, 1]]`` is a dictionary of lists.
        roles: which column plays which role.
        negatives: hard negatives a row.
        dropped: rows left out because a text is empty.
        instruction: what all rows ask for; None where a column of instructions, or nothing, says it.
        how: how the file was read; empty where there is nothing to say.
    """

    name: str
    rows: Dataset
    roles: Roles
    negatives: int
    dropped: int
    instruction: str | None = None
    how: str = ""

    @property
    def instructed(self) -> bool:
        """Whether the rows have instructions."""
        return self.instruction is not None or self.roles.instruction is not None

    def __len__(self) -> int:
        return len(self.rows)


def make_table(name: str, rows: Dataset, roles: Roles, view: View, negatives: int | None, keep_empty: bool) -> Table:
    """Check the content of a table, keep the roles that the view asks for, and leave out rows with an empty text.

    A text is empty if it is null or white space, a list if it has such an item, and a list of positives if it has no item.

    Args:
        name: the source's name, for messages.
        rows: the columns that ``roles`` names.
        roles: which column plays which role.
        view: ``auto`` takes every role.
        negatives: hard negatives a row to draw from a column of lists; None: as many row has.
        keep_empty: keep rows with an empty text.

    Raises:
        UsageError: if there are no rows, the view needs a role that is not there, a score is not a number, or a row has no
            hard negative.
    """
    if not len(rows):
        raise UsageError(f"{name}: expected at least one row; there is none.")
    roles = _as_view(roles, view, name)
    _check_scores(name, rows, roles)
    _check_instructions(name, rows, roles)
    empty = np.zeros(len(rows), dtype=bool) if keep_empty else _find_empty(rows, roles)
    dropped = int(empty.sum())
    if dropped == len(rows):
        raise UsageError(
            f"{name}: all {dropped} rows have an empty text in one of the columns {', '.join(roles.texts)}."
        )
    if dropped:
        rows = rows.select(np.flatnonzero(~empty))
        logger.warning("%s: dropped %d rows with an empty text; %d are left", name, dropped, len(rows))
    return Table(name, rows, roles, _count_negatives(name, rows, roles, negatives), dropped)


def count_cells(rows: Dataset, columns: Iterable[str], values: Iterable[str]) -> int:
    """Count the cells of columns of texts that are one of ``values``."""
    wanted = pa.array(sorted(values))
    return sum(
        pc.sum(pc.is_in(part[column].cast(pa.string()), wanted)).as_py() or 0
        for column in columns
        for part in _parts(rows, column)
    )


def _as_view(roles: Roles, view: View, name: str) -> Roles:
    """Keep the roles that the view asks for."""
    if view not in get_args(View):
        raise UsageError(f"{name}: expected view to be one of {', '.join(get_args(View))}; got {view!r}.")
    if view == "auto":
        return roles
    takes = {"same": (), "pair": ("positive",), "triplet": ("positive", "negatives"), "scored": ("positive", "score")}
    for role in takes[view]:
        if not getattr(roles, role):
            raise UsageError(f"{name}: view {view} needs {role}; found {roles}. Set columns.{role}, or view: auto.")
    kept = Roles(roles.anchor, how=roles.how, instruction=roles.instruction)
    return replace(kept, **{role: getattr(roles, role) for role in takes[view]})


def _check_scores(name: str, rows: Dataset, roles: Roles) -> None:
    if roles.score is None:
        return
    scores = np.concatenate(
        [t[roles.score].cast(pa.float64()).fill_null(np.nan).to_numpy() for t in _parts(rows, roles.score)]
    )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise UsageError(
            f"{name}, row {wrong[0] + 1}: expected a number in the score column {roles.score}; got {scores[wrong[0]]}."
        )


def _check_instructions(name: str, rows: Dataset, roles: Roles) -> None:
    if roles.instruction is None:
        return
    blank = np.concatenate(
        [_is_empty(t[roles.instruction].combine_chunks(), False) for t in _parts(rows, roles.instruction)]
    )
    if blank.any():
        raise UsageError(
            f"{name}, row {int(blank.argmax()) + 1}: expected an instruction in the column {roles.instruction}; it is empty. Fill it in, or "
            "give the source one instruction for all rows."
        )


def _find_empty(rows: Dataset, roles: Roles) -> np.ndarray:
    """Mark the rows with an empty text -> (n,) bool."""
    empty = np.zeros(len(rows), dtype=bool)
    for column in roles.texts:
        parts = [_is_empty(part[column].combine_chunks(), column in roles.negatives) for part in _parts(rows, column)]
        empty |= np.concatenate(parts)
    return empty


def _is_empty(column: Any, may_lack_items: bool) -> np.ndarray:
    if arrow_kind(column.type) == TEXTS:
        items = _is_empty(column.flatten(), False)
        row = pc.list_parent_indices(column).to_numpy()
        empty = np.bincount(row[items], minlength=len(column)) > 0
        return empty if may_lack_items else empty | (np.bincount(row, minlength=len(column)) == 0)
    # Large strings: the columns of other people's files may hold more than 2 GiB a part.
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.large_string()).fill_null(""))
    return pc.equal(trimmed, "").to_numpy(zero_copy_only=False)


def _count_negatives(name: str, rows: Dataset, roles: Roles, wanted: int | None) -> int:
    """Return how many hard negatives each row gives."""
    column = roles.negatives[0] if len(roles.negatives) == 1 else None
    if column is None or arrow_kind(rows.features.arrow_schema.field(column).type) != TEXTS:
        if wanted not in (None, 0, len(roles.negatives)):
            raise UsageError(
                f"{name}: negatives = {wanted} needs a column of lists to draw from; there are {len(roles.negatives)} columns "
                "of single hard negatives. Remove the setting, or set columns.negatives."
            )
        return len(roles.negatives) if wanted is None else wanted
    lengths = np.concatenate([pc.list_value_length(t[column]).fill_null(0).to_numpy() for t in _parts(rows, column)])
    count = int(lengths.min()) if wanted is None else wanted
    if ((wanted is None and lengths.any()) or count > 0) and not lengths.all():
        raise Doubt(
            name,
            f"row {np.argmin(lengths) + 1}: expected at least one hard negative in the column {column}; there is none; mend the row",
            [("or to train without them", {"columns": replace(roles, negatives=()).setting})],
        )
    return count


def _parts(rows: Dataset, column: str) -> Iterator[Any]:
    """Yield one column as Arrow tables of some thousand rows."""
    yield from rows.select_columns([column]).with_format("arrow").iter(_ROWS_A_BATCH)
