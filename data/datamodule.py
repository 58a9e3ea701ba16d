"""Serve the batches of a training run: sources, order, views and tokens joined for the trainer."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from inbatch.accumulation import scheduled
from inbatch.data.batches.collate import Collate, lengths_by_side
from inbatch.data.batches.sampler import BatchOrder, StepSampler, batches_done
from inbatch.data.edits.edit import Edit
from inbatch.data.edits.repetition import Repetition
from inbatch.data.sources.sources import Source, as_sources, load
from inbatch.data.sources.tables import Table
from inbatch.data.views.rows import Ids, ViewDataset, pairs_of
from inbatch.data.views.stacking import shape
from inbatch.errors import UsageError
from inbatch.text.ids import text_id

_EXAMPLES = 3
_LONGEST_EXAMPLE = 100


class EmbeddingDataModule(LightningDataModule):
    r"""Yields `Views` of tokens, with ids, and scores where there are any.

    The order of the rows follows from the seed and the trainer's step alone. A resumed run goes on with the batch that would have come
    next, and nothing about the order is in the checkpoint.

    Args:
        sources: what to train on, one or several; a path stands for a source with its defaults.
        batch_size: rows of all ranks together, as papers state it; each rank takes its slice.
        max_length: tokens kept of each text: one number, or ``{query: …, document: …}``. The anchor is the query.
        seed: decides the order and what is drawn from lists.
        num_workers: processes that read and tokenize ahead; 0 does it between the steps.
        ids: ``text`` masks equal texts as negatives of each other; ``position`` keeps them, as released codes do.
        drop_last: leave out the last batch of an epoch where it is not full.
        temperature: how several sources are mixed: shares ∝ weight · rows^(1/temperature).
        single_source: take each batch from one source, so that its negatives are of one kind.
        repetition: repeat words of some views, before all other edits; null repeats none.
        document_token_type: token type of positives and negatives where the tokenizer gives types; 1 as GCSE's release has it for BERT.
        cut_first: cut each text to max_length by itself, decode it and put the string into its template, as PromptEOL's release does; a
            template in one string else keeps a text that is longer by what a token has in common with the template.
        edits: changes of the texts of some views, one after the other: ``[{class_path: …, init_args: {…}}]``, an `Edit` each.

    Example:
        >>> from datasets import Dataset
        >>> rows = {"question": ["When are you open?", "Do you ship?"], "answer": ["From 9 to 5.", "Yes, by mail."]}
        >>> Dataset.from_dict(rows).save_to_disk("questions")
        >>> print(*EmbeddingDataModule("questions", batch_size=2).describe(), sep="\n")
        questions: 2 rows
          anchor = question; positive = answer (by name)
          1. question: When are you open?
          1. answer: From 9 to 5.
          2. question: Do you ship?
          2. answer: Yes, by mail.
    """

    def __init__(
        self,
        sources: str | Source | list[str | Source],
        batch_size: int,
        max_length: int | dict[str, int] = 64,
        seed: int = 0,
        num_workers: int = 0,
        ids: Ids = "text",
        drop_last: bool = False,
        temperature: float = 1.0,
        single_source: bool = False,
        repetition: Repetition | None = None,
        document_token_type: Literal[0, 1] = 0,
        cut_first: bool = False,
        edits: list[Edit | Repetition] | None = None,
    ) -> None:
        super().__init__()
        self.sources = as_sources(sources)
        self.batch_size = batch_size
        self.max_length = lengths_by_side(max_length)
        self.seed = seed
        self.num_workers = num_workers
        self.ids: Ids = ids
        self.drop_last = drop_last
        self.temperature = temperature
        self.single_source = single_source
        self.edits: list[Edit | Repetition] = [*([] if repetition is None else [repetition]), *(edits or [])]
        self.document_token_type = document_token_type
        self.cut_first = cut_first
        self._tables: list[Table] | None = None
        self._order: BatchOrder | None = None

    @property
    def tables(self) -> list[Table]:
        """The loaded sources; loads them at first use."""
        if self._tables is None:
            tables = [load(source) for source in self.sources]
            _check_alike(tables, not self.single_source)
            _check_edits(tables, self.edits)
            self._tables = tables
        return self._tables

    @property
    def roles(self) -> tuple[int, bool]:
        """Hard negatives that every row has, and whether every row has a score."""
        return min(table.negatives for table in self.tables), all(t.first.score is not None for t in self.tables)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the further texts that every row has."""
        return tuple(sorted(set.intersection(*(set(table.first.others) for table in self.tables))))

    @property
    def most_scores(self) -> int:
        """The most scores of one row, in any source; 0 without any."""
        return max(abs(shape(table.first)[2]) for table in self.tables)

    @property
    def instructed(self) -> bool:
        """Whether the rows have instructions."""
        return self.tables[0].instructed

    @property
    def order(self) -> BatchOrder:
        """The batches of all ranks."""
        if self._order is None:
            self._order = BatchOrder(
                [len(table) for table in self.tables],
                self.batch_size,
                self.seed,
                weights=[source.weight for source in self.sources],
                temperature=self.temperature,
                single_source=self.single_source,
                drop_last=self.drop_last,
            )
        return self._order

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, as the trainer cuts it."""
        trainer: Any = self.trainer
        return _limited(self.order.steps_per_epoch, trainer.limit_train_batches)

    def pair_ids(self) -> Tensor:
        """Give the ids of every anchor, of each text that it may be paired with, and of the instruction (0 without); (n, 3) int64."""
        found = [
            (text_id(anchor), text_id(text), 0 if asked is None else text_id(asked))
            for asked, texts in pairs_of(self.tables)
            for anchor, text in texts
        ]
        return torch.tensor(found).view(-1, 3)

    @property
    def without_instructions(self) -> str:
        """Which settings leave the instructions of the rows out."""
        return "; ".join(_without_instructions(table) for table in self.tables)

    def longest_instructions(self, count: int = 64) -> list[str]:
        """Return the longest instructions of the rows, by characters, each once."""
        found: set[str] = set()
        for table in self.tables:
            if table.instruction is not None:
                found.add(table.instruction)
            elif table.roles.instruction is not None:
                found.update(table.rows.unique(table.roles.instruction))
        return sorted(found, key=len, reverse=True)[:count]

    def dataset(self) -> ViewDataset:
        """Return the rows as views of texts."""
        return ViewDataset(self.tables, self.seed, self.ids, self.edits)

    def collate(self, encoder: Any) -> Collate:
        """Return what turns views of texts into tokens for an encoder."""
        spans = encoder.pooling == "mean_text"
        return Collate(
            encoder.tokenizer,
            encoder.prompts,
            self.max_length,
            self.document_token_type,
            encoder.one_string,
            spans,
            self.cut_first,
        )

    def prepare_data(self) -> None:
        """Fill the caches, in one process a machine, before the others read them."""
        _ = self.tables

    def setup(self, stage: str) -> None:
        """Load and check everything, so that a mistake ends the run before its first step."""
        _ = self.order

    def train_dataloader(self) -> DataLoader[Any]:
        """Make the loader of this rank, of `Views` of `TokenBatch`; where it begins is asked from the trainer at each iteration."""
        trainer: Any = self.trainer
        assert trainer is not None, "the data module serves a trainer"
        _refuse_other_samplers(trainer)
        steps = self.steps_per_epoch
        sampler = StepSampler(
            self.order,
            trainer.global_rank,
            trainer.world_size,
            steps,
            lambda: batches_done(trainer.global_step, scheduled(trainer), steps),
        )
        collate: Any = self.collate(trainer.lightning_module.encoder)
        if self.num_workers:
            # Tokenizers that have used threads refuse to be forked; the workers are the parallelism here.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        return PositionedLoader(
            self.dataset(),
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # The loader draws a seed at each iteration; from a generator of its own, so that dropout does not depend on it.
            generator=torch.Generator(),
            collate_fn=collate,
        )

    def describe(self) -> list[str]:
        """Say in lines what is trained on: each source's rows, the roles of its columns, and three examples."""
        lines = []
        for source, table, quota in zip(self.sources, self.tables, self.order.quotas):
            dropped = f", {table.dropped} dropped as empty" if table.dropped else ""
            share = f", {quota} an epoch" if quota != len(table) else ""
            lines.append(f"{table.name}: {len(table)} rows{dropped}{share}")
            lines += [f"  {table.how}"] if table.how else []
            lines.append(f"  {table.roles}")
            lines += [] if isinstance(source.view, str) else [f"  view: {table.view.describe()}"]
            lines += [f"  instruction: {table.instruction}"] if table.instruction is not None else []
            for row in range(min(_EXAMPLES, len(table))):
                cells = table.rows[row]
                lines += [f"  {row + 1}. {name}: {_shorten(cells[name])}" for name in table.roles.used]
        return lines + [edit.describe() for edit in self.edits]


class PositionedLoader(DataLoader[Any]):
    """A loader that needs no state of its own to resume: its sampler asks the trainer where training stands.

    The two methods say so to the trainer, which else warns that the loader cannot resume inside of an epoch.

    Example:
        >>> loader = PositionedLoader(["red shoes", "blue hat"], batch_size=None)
        >>> list(loader), loader.state_dict()
        (['red shoes', 'blue hat'], {})
    """

    def state_dict(self) -> dict[str, Any]:
        """Return no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take no state."""


def _limited(steps: int, limit: int | float) -> int:
    """Return the steps of an epoch as the trainer's ``limit_train_batches`` cuts it."""
    return min(steps, limit) if isinstance(limit, int) else max(int(steps * limit), 1)


def _refuse_other_samplers(trainer: Any) -> None:
    """Refuse the trainer options that put another sampler in the place of ours."""
    replaces = getattr(getattr(trainer, "_accelerator_connector", None), "use_distributed_sampler", False)
    if trainer.world_size > 1 and replaces:
        raise UsageError(
            "the batches are already divided among the ranks. Set trainer.use_distributed_sampler to false."
        )
    if trainer.overfit_batches:
        raise UsageError(
            "overfit_batches takes the rows in the file's order. Leave it out, and set data.sources to a small file."
        )


def _check_alike(tables: list[Table], mixed: bool) -> None:
    first = tables[0]
    for table in tables[1:]:
        if table.instructed != first.instructed:
            with_, without = (first, table) if first.instructed else (table, first)
            raise UsageError(
                f"rows of {with_.name} have instructions, those of {without.name} have none. Set instruction on each source, or leave "
                f"them out: {_without_instructions(with_)}."
            )
        if not mixed:
            continue
        one, other = shape(first.first), shape(table.first)
        if one == other:
            continue
        differ = (
            [f"{first.negatives} and {table.negatives} hard negatives a row"]
            if first.negatives != table.negatives
            else []
        )
        differ += ["other texts"] if one[1] != other[1] else []
        differ += ["scores in one of them only, or of another number"] if one[2] != other[2] else []
        differ += ["labels in one of them only"] if one[3] != other[3] else []
        raise UsageError(
            f"rows of {first.name} and {table.name} cannot stand in one batch: {', '.join(differ)}. Set data.single_source to true, view: "
            "pair on each source, or columns on each to the same roles."
        )


def _check_edits(tables: list[Table], edits: list[Edit | Repetition]) -> None:
    """Refuse an edit of a view that some rows do not have."""
    for edit in edits:
        for table in tables:
            if missing := [role for role in edit.roles if role not in table.first.names]:
                raise UsageError(
                    f"expected views that the rows of {table.name} have, {', '.join(table.first.names)}, as roles of the edit "
                    f"{type(edit).__name__}; got {', '.join(missing)}. Set roles of data.edits, or columns of the source."
                )


def _without_instructions(table: Table) -> str:
    """Say which setting of its source leaves a table's instructions out."""
    if table.instruction is not None:
        return f"remove instruction from {table.name}"
    return f"set columns of {table.name} to {table.roles.without_instruction}"


def _shorten(cell: Any) -> str:
    text = " ".join(str(cell).split())
    return text if len(text) <= _LONGEST_EXAMPLE else text[: _LONGEST_EXAMPLE - 1] + "…"
