"""What makes the views of one row from its cells."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from inbatch.data.formats.columns import Roles
from inbatch.data.views.labels import label_id
from inbatch.errors import UsageError
from inbatch.views import Views

# The cells of one row by their roles, as `rows_of` makes them.
Row = Mapping[str, Any]


class RowView(ABC):
    """Base class of what makes the views of a row: a subclass says which texts of the row play which role.

    A source takes one as ``view: {class_path: package.module.Class, init_args: {…}}``. What it draws must follow from the key alone, as with
    ``random.Random(key)``: then a resumed run, and a run on another number of ranks, draws the same. Every row must give the same names.

    Example:
        >>> class Swapped(RowView):
        ...     def __call__(self, row, key):
        ...         texts = [row["anchor"], row["positive"]]
        ...         random.Random(key).shuffle(texts)
        ...         return Views(*texts)
        ...     def describe(self):
        ...         return "either text of a pair is its anchor"
        >>> sorted(Swapped()({"anchor": "a", "positive": "b"}, "0 7"))
        ['a', 'b']
    """

    @abstractmethod
    def __call__(self, row: Row, key: str) -> Views[str]:
        """Return the views of one row.

        Args:
            row: its cells: ``anchor``; where there are such columns ``positive`` (a text, or a list of them), ``negatives`` (a list of texts),
                ``score`` (a number, or a list of one a candidate), ``label`` (an int), ``instruction``; and other texts by their names (a
                text or a list). A missing text is "".
            key: seed and position of this visit to the row; all that may decide what is drawn.

        Returns:
            Views of texts, with ``score`` a float or a sequence of 1+k, and ``labels`` an int, where they are not None.
        """

    @abstractmethod
    def describe(self) -> str:
        """Say in a line what becomes of a row."""

    def reads(self, roles: Roles, where: str) -> Roles:
        """Return those of the roles that were found in the source that this view reads; here all.

        A row with an empty text in one of their columns is left out.

        Args:
            roles: found in the source.
            where: the source's name, for messages.
        """
        return roles

    def pairs(self, row: Row) -> list[tuple[str, str]]:
        """Return all pairs of an anchor and another text that may be drawn of a row.

        Raises:
            UsageError: here, as only a subclass can know them.
        """
        raise UsageError(
            f"expected all pairs of a row, which are not known of the view {type(self).__name__}. Set view on data.sources to a name, or "
            "give the class a method pairs."
        )

    @property
    def spelled(self) -> dict[str, Any]:
        """The class and its arguments, as a configuration writes them."""
        kind = type(self)
        given = {
            name: getattr(self, name)
            for name, parameter in inspect.signature(kind).parameters.items()
            if hasattr(self, name) and getattr(self, name) != parameter.default
        }
        path = {"class_path": f"{kind.__module__}.{kind.__qualname__}"}
        return path | ({"init_args": given} if given else {})


def rows_of(columns: Mapping[str, Sequence[Any]], roles: Roles, instruction: str | None = None) -> list[Row]:
    """Give the cells of b rows their roles, as `RowView.__call__` takes them.

    Args:
        columns: b cells each: texts, null for an empty one, lists of texts, numbers.
        roles: which column plays which role.
        instruction: of all rows, where no column has it.

    Example:
        >>> rows_of({"question": ["Do you ship?"], "answer": [None], "votes": [3.0]}, Roles("question", "answer", score="votes"))
        [{'anchor': 'Do you ship?', 'positive': '', 'score': 3.0}]
    """
    single = {"anchor": roles.anchor, "positive": roles.positive, "instruction": roles.instruction, **roles.others}
    texts = {name: columns[column] for name, column in single.items() if column is not None}
    rows: list[Row] = []
    for i in range(len(columns[roles.anchor])):
        row: dict[str, Any] = {name: _text(cells[i]) for name, cells in texts.items()}
        if instruction is not None:
            row["instruction"] = instruction
        if roles.negatives:
            row["negatives"] = [text for name in roles.negatives for text in _texts(columns[name][i])]
        if roles.scores:
            scores = [columns[name][i] for name in roles.scores]
            row["score"] = scores if len(scores) > 1 else _score(scores[0])
        if roles.label is not None:
            row["label"] = label_id(columns[roles.label][i])
        rows.append(row)
    return rows


def draw(among: int, count: int, key: str) -> list[int]:
    """Draw ``count`` of the numbers below ``among``: each is used up before one comes again; which ones follows from ``key`` alone.

    Example:
        >>> draw(2, 4, "0 7"), sorted(set(draw(3, 5, "0 7")))
        ([0, 1, 0, 1], [0, 1, 2])
        >>> draw(100, 3, "0 7") == draw(100, 3, "0 7")
        True
    """
    whole, rest = divmod(count, among)
    numbers = [*range(among)] * whole
    # A generator's seed costs more than all else of a row, and most rows have nothing to draw.
    return numbers + random.Random(key).sample(range(among), rest) if rest else numbers


def _text(cell: Any) -> str | list[str]:
    return _texts(cell) if isinstance(cell, list) else cell or ""


def _texts(cell: Any) -> list[str]:
    return [text or "" for text in cell] if isinstance(cell, list) else [cell or ""]


def _score(cell: Any) -> float | list[float]:
    return [float(number) for number in cell] if isinstance(cell, list) else cell
