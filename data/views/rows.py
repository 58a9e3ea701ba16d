"""Read rows of tables as the views of a batch, and go through all pairs that rows may give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import torch

from inbatch.data.edits.edit import Edit
from inbatch.data.edits.repetition import Repetition
from inbatch.data.views.ids import position_ids, text_ids
from inbatch.data.views.row_view import rows_of
from inbatch.data.views.stacking import stack
from inbatch.errors import UsageError
from inbatch.spelling import require_choice
from inbatch.views import Views

if TYPE_CHECKING:
    from inbatch.data.batches.sampler import Draw
    from inbatch.data.sources.tables import Table

Ids = Literal["text", "position"]

# Rows read at a time where all are gone through.
_ROWS_READ = 4096


class ViewDataset(torch.utils.data.Dataset[Views[list[str]]]):
    """Reads a `Draw` of rows from several tables as one `Views` of texts.

    Args:
        tables: rows are numbered through all of them.
        seed: decides what is drawn from lists of texts, with the position of the visit.
        ids: ``text``: equal texts have equal ids, so that no text is its own negative; ``position``: every text of a step has
            an id of its own, so that duplicates stay negatives, as in released codes that do not look for them.
        edits: changes of the texts, one after the other, after the ids were given: a repeated word makes no other text.

    Example:
        >>> from datasets import Dataset
        >>> from inbatch.data.batches.sampler import Draw
        >>> from inbatch.data.sources.tables import Roles, make_table
        >>> rows = Dataset.from_dict({"question": ["Do you ship?", "Are you open?"], "answer": ["Yes.", "Yes."]})
        >>> table = make_table("faq", rows, Roles("question", "answer"), "auto", negatives=None, keep_empty=False)
        >>> views = ViewDataset([table], seed=0, ids="text")[Draw(0, [1, 0])]
        >>> views.anchor, bool(views.ids.positive[0] == views.ids.positive[1])
        (['Are you open?', 'Do you ship?'], True)
    """

    def __init__(self, tables: Sequence[Table], seed: int, ids: Ids, edits: Sequence[Edit | Repetition] = ()) -> None:
        require_choice(ids, get_args(Ids), "data.ids")
        self.tables = list(tables)
        self.seed = seed
        self.ids = ids
        self.edits = list(edits)
        self._starts = [0]
        for table in tables:
            self._starts.append(self._starts[-1] + len(table))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, draw: Draw) -> Views[list[str]]:
        """Read the rows of one draw, in its order."""
        keys = [f"{self.seed} {draw.position + place}" for place in range(len(draw.rows))]
        found: dict[int, Views[str]] = {}
        asked: dict[int, str] = {}
        source: dict[int, int] = {}
        for number, (start, stop, table) in enumerate(zip(self._starts, self._starts[1:], self.tables)):
            places = [place for place, row in enumerate(draw.rows) if start <= row < stop]
            if not places:
                continue
            columns = table.rows[[draw.rows[place] - start for place in places]]
            for place, row in zip(places, rows_of(columns, table.roles, table.instruction)):
                found[place], source[place] = table.view(row, keys[place]), number
                if "instruction" in row:
                    asked[place] = row["instruction"]
        places = range(len(draw.rows))
        views = stack([found[place] for place in places])
        ids = text_ids(views) if self.ids == "text" else position_ids(views, draw.position)
        views.instructions = [asked.get(place, "") for place in places] if asked else None
        views.source = torch.tensor([source[place] for place in places])
        for number, edit in enumerate(self.edits):
            # Each edit draws anew: two of one kind would else choose the same words.
            edited = edit(views, [f"{key} {number}" for key in keys] if number else keys)
            counts = [len(texts) for texts in edited]
            if (edited.names, counts) != (views.names, [len(keys)] * len(views)):
                raise UsageError(
                    f"expected the edit {type(edit).__name__} to return {len(keys)} texts each of {', '.join(views.names)}; got "
                    f"{', '.join(f'{count} of {name}' for name, count in zip(edited.names, counts))}. Mend the class in data.edits."
                )
            # Its texts alone are taken: an edit that makes new views need not hand on labels, scores and instructions.
            views = views.replace_payloads(list(edited))
        return replace(views, ids=ids)


def pairs_of(tables: Sequence[Table]) -> Iterator[tuple[str | None, list[tuple[str, str]]]]:
    """Go through all rows, and give each one's instruction and the pairs that may be drawn of it: the anchor with its positives, then
    with its hard negatives.

    Example:
        >>> from datasets import Dataset
        >>> from inbatch.data.sources.tables import Roles, make_table
        >>> rows = Dataset.from_dict({"question": ["Do you ship?"], "answers": [["Yes.", "By mail."]]})
        >>> table = make_table("faq", rows, Roles("question", "answers"), "auto", negatives=None, keep_empty=False)
        >>> list(pairs_of([table]))
        [(None, [('Do you ship?', 'Yes.'), ('Do you ship?', 'By mail.')])]
    """
    for table in tables:
        for start in range(0, len(table), _ROWS_READ):
            columns = table.rows[start : start + _ROWS_READ]
            for row in rows_of(columns, table.roles, table.instruction):
                yield row.get("instruction"), table.view.pairs(row)
