"""Make a table of rows ready for training: its view, its empty texts, its hard negatives."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from inbatch.data.formats.arrow import arrow_kind
from inbatch.data.formats.columns import TEXTS, Roles
from inbatch.data.formats.doubt import Doubt
from inbatch.data.sources.scores import check_scores
from inbatch.data.views.labels import label_id
from inbatch.data.views.named import Auto, View, view_of
from inbatch.data.views.row_view import RowView, rows_of
from inbatch.data.views.stacking import shape
from inbatch.errors import UsageError
from inbatch.views import Views

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

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
        view: what makes the views of a row.
        first: those of the first row: every row has the same texts, scores and labels.
        dropped: rows left out because a text is empty.
        instruction: what all rows ask for; None where a column of instructions, or nothing, says it.
        how: how the file was read; empty where there is nothing to say.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"question": ["Do you ship?"], "answer": ["Yes."], "wrong": ["At nine."]})
        >>> table = make_table("faq", rows, Roles("question", "answer", ("wrong",)), "auto", negatives=None, keep_empty=False)
        >>> len(table), table.negatives, table.first.names
        (1, 1, ('anchor', 'positive', 'negative_1'))
    """

    name: str
    rows: Dataset
    roles: Roles
    view: RowView
    first: Views[str]
    dropped: int
    instruction: str | None = None
    how: str = ""

    @property
    def negatives(self) -> int:
        """Hard negatives a row."""
        return len(self.first.negatives)

    @property
    def instructed(self) -> bool:
        """Whether the rows have instructions."""
        return self.instruction is not None or self.roles.instruction is not None

    def __len__(self) -> int:
        return len(self.rows)


def make_table(
    name: str,
    rows: Dataset,
    roles: Roles,
    view: View | RowView | Mapping[str, Any],
    negatives: int | None,
    keep_empty: bool,
    instruction: str | None = None,
) -> Table:
    """Check the content of a table, keep the roles that the view asks for, and leave out rows with an empty text.

    A text is empty if it is null or white space, a list if it has such an item, and a list of positives if it has no item.

    Args:
        name: the source's name, for messages.
        rows: the columns that ``roles`` names.
        roles: which column plays which role.
        view: as in `inbatch.data.sources.sources.Source`; ``auto`` takes every role.
        negatives: hard negatives a row to draw from a column of lists; None: as many as every row has.
        keep_empty: keep rows with an empty text.
        instruction: of all rows, where no column has it.

    Raises:
        UsageError: if there are no rows, the view needs a role that is not there or makes no `Views`, a score is not a number, a label
            is neither integer nor word, or a row has no hard negative.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"question": ["Do you ship?", "Open?"], "answer": ["Yes.", " "]})
        >>> table = make_table("faq", rows, Roles("question", "answer"), "pair", negatives=None, keep_empty=False)
        >>> table.rows[:], table.dropped
        ({'question': ['Do you ship?'], 'answer': ['Yes.']}, 1)
    """
    if not len(rows):
        raise UsageError(f"{name}: expected at least one row; there is none.")
    made = view_of(view, name)
    found, roles = roles, made.reads(roles, name)
    if roles.scores:
        check_scores(name, rows, roles.scores, found)
    _check_labels(name, rows, roles)
    _check_instructions(name, rows, roles)
    empty = np.zeros(len(rows), dtype=bool) if keep_empty else _find_empty(rows, roles)
    dropped = int(empty.sum())
    if dropped == len(rows):
        raise UsageError(
            f"{name}: all {dropped} rows have an empty text in one of the columns {', '.join(roles.texts)}."
        )
    kept = np.flatnonzero(~empty)
    if dropped:
        rows = rows.select(kept)
        logger.warning("%s: dropped %d rows with an empty text; %d are left", name, dropped, len(rows))
    if isinstance(made, Auto):
        wanted = made.negatives if negatives is None else negatives
        made = replace(made, negatives=_count_negatives(name, rows, roles, wanted, kept))
    elif negatives is not None:
        raise UsageError(
            f"{name}: negatives is a setting of views with a name; got it beside {type(made).__name__}. Set it in the view's init_args."
        )
    first = made(rows_of(rows[:1], roles, instruction)[0], "")
    _check_first(f"{name}: expected {type(made).__name__} to make", first)
    return Table(name, rows, roles, made, first, dropped, instruction)


def _check_first(expected: str, first: Any) -> None:
    """Refuse what a view made of the first row, if no batch can be made of it; ``expected`` begins the message."""
    if not isinstance(first, Views):
        raise UsageError(f"{expected} Views of a row; got {type(first).__name__}.")
    for role, text in zip(first.names, first):
        if not isinstance(text, str):
            raise UsageError(
                f"{expected} one text the {role}; got {type(text).__name__}. Let it draw one of a list, or set columns of the source to "
                "single texts."
            )
    if len(set(first.names)) < len(first):
        raise UsageError(
            f"{expected} texts of different names; got {', '.join(first.names)}. Rename one in its others."
        )
    if first.labels is not None and not (isinstance(first.labels, int) and first.labels >= 0):
        raise UsageError(
            f"{expected} an int of at least 0 as the label; got {first.labels!r}. Take `inbatch.data.views.label_id` of it."
        )
    _, _, scores, _ = shape(first)
    if scores not in (0, -1, 1 + len(first.negatives)):
        raise UsageError(
            f"{expected} one score, or {1 + len(first.negatives)}, of the positive and of each hard negative; got {scores}. Mend the class."
        )


def count_cells(rows: Dataset, columns: Iterable[str], values: Iterable[str]) -> int:
    """Count the cells of columns of texts that are one of ``values``.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"question": ["NA", "Do you ship?"], "answer": ["null", "NA"]})
        >>> count_cells(rows, ["question", "answer"], {"NA", "null"}), count_cells(rows, ["answer"], {"NA"})
        (3, 1)
    """
    wanted = pa.array(sorted(values))
    return sum(
        pc.sum(pc.is_in(part[column].cast(pa.string()), wanted)).as_py() or 0
        for column in columns
        for part in _parts(rows, column)
    )


def _check_labels(name: str, rows: Dataset, roles: Roles) -> None:
    if roles.label is None:
        return
    before = 0
    for part in _parts(rows, roles.label):
        column = part[roles.label].combine_chunks()
        for word in pc.unique(column).to_pylist():
            try:
                label_id("" if word is None else word)
            except ValueError as error:
                row = before + column.to_pylist().index(word) + 1
                raise UsageError(
                    f"{name}, row {row}: in the label column {roles.label} {error}. Mend the row, or leave it out; scores are set by "
                    "columns.score."
                ) from None
        before += len(column)


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


def _count_negatives(name: str, rows: Dataset, roles: Roles, wanted: int | None, kept: np.ndarray) -> int:
    """Return how many hard negatives each row gives; ``kept`` are the rows' places in the source, for the message."""
    if wanted is not None and wanted < 0:
        raise UsageError(f"{name}: expected negatives to be at least 0; got {wanted}. Set negatives of the source.")
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
            f"row {kept[np.argmin(lengths)] + 1}: expected at least one hard negative in the column {column}; there is none; mend the row",
            [("or to train without them", {"columns": replace(roles, negatives=()).setting})],
        )
    return count


def _parts(rows: Dataset, column: str) -> Iterator[Any]:
    """Yield one column as Arrow tables of some thousand rows."""
    yield from rows.select_columns([column]).with_format("arrow").iter(_ROWS_A_BATCH)
