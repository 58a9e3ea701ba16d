"""Make `Views` of texts from rows: which text plays which role, and the ids that tell equal texts apart from negatives."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from inbatch.data.edits.repetition import Repetition
from inbatch.data.formats.columns import Roles
from inbatch.data.sources.tables import Table
from inbatch.errors import UsageError
from inbatch.text.ids import text_id
from inbatch.views import Views

if TYPE_CHECKING:
    from inbatch.data.batches.sampler import Draw

Ids = Literal["text", "position"]

# Rows read at a time where all are gone through.
_ROWS_READ = 4096
# Position ids leave room for that many views of one row.
_MOST_VIEWS = 1 << 16


class ViewDataset(torch.utils.data.Dataset[Views[list[str]]]):
    """Reads a `Draw` of rows from several tables as one `Views` of texts.

    Args:
        tables: rows are numbered through all of them.
        seed: decides what is drawn from lists of texts, with the position of the visit.
        ids: ``text``: equal texts have equal ids, so that no text is its own negative; ``position``: every text of a step has
            an id of its own, so that duplicates stay negatives, as in released codes that do not look for them.
        repetition: of words, after the ids were given: a repeated word makes no other text.
    """

    def __init__(self, tables: Sequence[Table], seed: int, ids: Ids, repetition: Repetition | None = None) -> None:
        if ids not in get_args(Ids):
            raise UsageError(f"expected ids to be text or position; got {ids!r}. Set data.ids.")
        self.tables = list(tables)
        self.seed = seed
        self.ids = ids
        self.repetition = repetition
        self._starts = [0]
        for table in tables:
            self._starts.append(self._starts[-1] + len(table))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, draw: Draw) -> Views[list[str]]:
        """Read the rows of one draw, in its order."""
        parts, order = [], []
        for start, stop, table in zip(self._starts, self._starts[1:], self.tables):
            places = [place for place, row in enumerate(draw.rows) if start <= row < stop]
            if places:
                rows = table.rows[[draw.rows[place] - start for place in places]]
                keys = [f"{self.seed} {draw.position + place}" for place in places]
                made = make_views(rows, table.roles, table.negatives, keys)
                if table.instruction is not None:
                    made.instructions = [table.instruction] * len(places)
                parts.append(made)
                order += places
        views = _merge(parts, order)
        ids = text_ids(views) if self.ids == "text" else position_ids(views, draw.position)
        if self.repetition is not None:
            views = self.repetition(views, [f"{self.seed} {draw.position + place}" for place in range(len(draw.rows))])
        return replace(views, ids=ids)


def make_views(rows: dict[str, list[Any]], roles: Roles, negatives: int, keys: Sequence[str]) -> Views[list[str]]:
    """Put the columns of b rows into their roles.

    Args:
        rows: columns of b cells: texts, null for an empty one, lists of texts, numbers.
        roles: which column plays which role. Without a positive the anchor's texts are it.
        negatives: hard negatives drawn from lists: without repetition as long list is long enough.
        keys: b strings that decide what is drawn from each row's lists.
    """

    def one(name: str) -> list[str]:
        cells = [cell[0] for cell in _draw(rows[name], 1, keys)] if _holds_lists(rows[name]) else rows[name]
        return [cell or "" for cell in cells]

    anchor = one(roles.anchor)
    positive = anchor if roles.positive is None else one(roles.positive)
    if len(roles.negatives) == 1 and _holds_lists(rows[roles.negatives[0]]):
        drawn = _draw(rows[roles.negatives[0]], negatives, keys)
        columns = tuple([cells[i] or "" for cells in drawn] for i in range(negatives))
    else:
        columns = tuple(one(name) for name in roles.negatives[:negatives])
    score = None if roles.score is None else torch.tensor(rows[roles.score], dtype=torch.float32)
    instructions = None if roles.instruction is None else [cell or "" for cell in rows[roles.instruction]]
    return Views(anchor, positive, columns, score, instructions=instructions)


def pairs_of(tables: Sequence[Table]) -> Iterator[tuple[str | None, list[tuple[str, str]]]]:
    """Go through all rows, and give each one's instruction and the pairs that may be drawn of it: the anchor with its positives, then
    with its hard negatives.
    """
    for table in tables:
        roles = table.roles
        others = (roles.positive or roles.anchor, *(roles.negatives if table.negatives else ()))
        for start in range(0, len(table), _ROWS_READ):
            rows = table.rows[start : start + _ROWS_READ]
            asked = rows[roles.instruction] if roles.instruction else [table.instruction] * len(rows[roles.anchor])
            for cells in zip(asked, rows[roles.anchor], *(rows[name] for name in others)):
                anchor = cells[1] or ""
                texts = [text for cell in cells[2:] for text in (cell if isinstance(cell, list) else [cell])]
                yield cells[0], [(anchor, text or "") for text in texts]


def text_ids(views: Views[list[str]]) -> Views[Tensor]:
    """Give equal texts equal ids, (b,) int64 a view."""
    anchor, positive, *negatives = (torch.tensor([text_id(text) for text in texts]) for texts in views)
    return Views(anchor, positive, tuple(negatives))


def position_ids(views: Views[list[str]], position: int) -> Views[Tensor]:
    """Give every text of a run an id of its own, (b,) int64 a view, unique over steps, ranks and views.

    Args:
        views: texts of b rows.
        position: rows seen by all ranks before the first of these.
    """
    first = torch.arange(position, position + len(views.anchor)) * _MOST_VIEWS
    return Views(first, first + 1, tuple(first + 2 + i for i in range(len(views.negatives))))


def _holds_lists(cells: Sequence[Any]) -> bool:
    return any(isinstance(cell, list) for cell in cells)


def _draw(cells: Sequence[list[str] | None], count: int, keys: Sequence[str]) -> list[list[str]]:
    """Draw ``count`` items of each list; a list that is too short is used up before an item comes again."""
    drawn = []
    for items, key in zip(cells, keys):
        items = items or [""]
        whole, rest = divmod(count, len(items))
        drawn.append(items * whole + random.Random(key).sample(items, rest))
    return drawn


def _merge(parts: Sequence[Views[list[str]]], order: Sequence[int]) -> Views[list[str]]:
    """Stack the rows of several views and bring them to the order in which they were drawn."""
    if len(parts) == 1:
        return parts[0]
    inverse = sorted(range(len(order)), key=order.__getitem__)

    def stack(columns: Sequence[list[str]]) -> list[str]:
        flat = [text for column in columns for text in column]
        return [flat[i] for i in inverse]

    payloads = [stack(columns) for columns in zip(*parts, strict=True)]
    scores = [part.score for part in parts if part.score is not None]
    merged = Views(payloads[0], payloads[1], tuple(payloads[2:]), torch.cat(scores)[inverse] if scores else None)
    if parts[0].instructions is not None:
        merged.instructions = stack([part.instructions or [] for part in parts])
    return merged
