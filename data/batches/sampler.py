"""The order of the rows: a pure function of (seed, epoch, step), that can be entered at any step on any number of ranks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from inbatch.accumulation import stretches
from inbatch.data.batches.mixing import epoch_rows, quotas
from inbatch.errors import UsageError

logger = logging.getLogger(__name__)


class Draw(NamedTuple):
    """The rows that one rank reads in one step.

    Attributes:
        position: rows that all ranks together have drawn before the first of these since training began; batches count as full.
        rows: row numbers, counted through all sources.

    Example:
        >>> order = BatchOrder([8], batch_size=4, seed=0)
        >>> draws = [next(iter(StepSampler(order, rank, world_size=2, steps=2, first=lambda: 3))) for rank in (0, 1)]
        >>> [draw.position for draw in draws]  # three batches of 4 were drawn before; the second rank reads behind the first
        [12, 14]
    """

    position: int
    rows: list[int]


class BatchOrder:
    """The batches of all ranks together, step by step.

    Each epoch is a permutation of all rows, cut into batches; with other shares (`quotas`) it holds the rows that they say. A last
    batch of a single row is left out, because a row alone has no negatives.

    Args:
        sizes: rows of each source.
        batch_size: rows of all ranks together.
        seed: decides the order.
        weights: factor of each source's share; equal where not given.
        temperature: see `quotas`.
        single_source: take each batch from one source; each source then has a last, smaller batch.
        drop_last: leave out batches that are not full.

    Raises:
        UsageError: if a batch is larger than the data, or has fewer than two rows.

    Example:
        >>> order = BatchOrder([5], batch_size=3, seed=0)
        >>> [len(order.batch(step)) for step in range(order.steps_per_epoch)]
        [3, 2]
        >>> sorted(order.batch(0).tolist() + order.batch(1).tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        single_source: bool = False,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 2:
            raise UsageError(
                f"expected a batch_size of at least 2, since a row alone has no negatives; got {batch_size}."
            )
        self.sizes = list(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.single_source = single_source
        self.quotas = quotas(sizes, weights or [1.0] * len(sizes), temperature)
        groups = self.quotas if single_source else [sum(self.quotas)]
        if batch_size > min(groups):
            of = (
                f"source {groups.index(min(groups))} gives an epoch"
                if single_source and len(groups) > 1
                else "there are"
            )
            raise UsageError(
                f"batch_size {batch_size} is larger than the {min(groups)} rows that {of}. Set a smaller data.batch_size."
            )
        least = batch_size if drop_last else 2
        self._cuts = [
            [(i, i + batch_size) for i in range(0, rows, batch_size) if min(rows - i, batch_size) >= least]
            for rows in groups
        ]
        self.steps_per_epoch = sum(map(len, self._cuts))
        self.smallest_batch = min(
            min(stop, rows) - start for rows, cuts in zip(groups, self._cuts) for start, stop in cuts
        )
        left_out = sum(rows % batch_size for rows, cuts in zip(groups, self._cuts) if rows > len(cuts) * batch_size)
        if left_out:
            logger.info(
                "the last %d of %d rows of each epoch's order fill no batch and are left out", left_out, sum(groups)
            )
        self._cached: tuple[int, list[np.ndarray]] | None = None

    def batch(self, step: int) -> np.ndarray:
        """Return the rows of one step, counted from the beginning of training -> (b,) int64."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._epoch(epoch))
        return self._cached[1][index]

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        starts = np.cumsum([0, *self.sizes])
        parts = [
            starts[i] + epoch_rows(size, quota, self.seed, i, epoch)
            for i, (size, quota) in enumerate(zip(self.sizes, self.quotas))
        ]
        shuffle = np.random.default_rng([self.seed, len(self.sizes), epoch])
        if len(parts) > 1 and not self.single_source:
            parts = [shuffle.permutation(np.concatenate(parts))]
        batches = [part[start:stop] for part, cuts in zip(parts, self._cuts) for start, stop in cuts]
        # One source's order is random already; batches of several must not come source by source.
        return [batches[i] for i in shuffle.permutation(len(batches))] if len(parts) > 1 else batches


def rank_slice(count: int, rank: int, world_size: int) -> slice:
    """Return which of ``count`` rows a rank takes: slices follow one another in rank order and differ by one row at most.

    Example:
        >>> [list(range(5))[rank_slice(5, rank, world_size=2)] for rank in (0, 1)]
        [[0, 1], [2, 3, 4]]
    """
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


class StepSampler(Sampler[Draw]):
    """Yields one rank's `Draw` of each step, from where training stands to the end of its epoch.

    Args:
        order: the batches of all ranks.
        rank: this rank.
        world_size: number of ranks.
        steps: steps an epoch of the trainer, at most those of the order; ``len`` are the order's, of which the trainer takes its share.
        first: asked at the beginning of each iteration for the step to begin with, counted from the beginning of training.

    Raises:
        UsageError: if some batch has fewer rows than there are ranks.

    Example:
        >>> order = BatchOrder([9], batch_size=3, seed=0)
        >>> sampler = StepSampler(order, rank=0, world_size=1, steps=3, first=lambda: 4)  # resumed inside of the second epoch
        >>> [draw.position for draw in sampler]
        [12, 15]
        >>> len(sampler)
        3
    """

    def __init__(self, order: BatchOrder, rank: int, world_size: int, steps: int, first: Callable[[], int]) -> None:
        if order.smallest_batch < world_size:
            raise UsageError(
                f"an epoch has a batch of {order.smallest_batch} rows, fewer than the {world_size} ranks. Set data.drop_last to true, "
                "or another data.batch_size."
            )
        self.order = order
        self.rank = rank
        self.world_size = world_size
        self.steps = steps
        self.first = first

    def __len__(self) -> int:
        """Return the steps of a whole epoch, also where an iteration begins inside of it: so does the trainer count.

        All that there are: a trainer with ``limit_train_batches`` takes its share of this number.
        """
        return self.order.steps_per_epoch

    def __iter__(self) -> Iterator[Draw]:
        first = self.first()
        for step in range(first, first + self.steps - first % self.steps):
            rows = self.order.batch(step)
            part = rank_slice(len(rows), self.rank, self.world_size)
            yield Draw(step * self.order.batch_size + part.start, rows[part].tolist())


def batches_done(global_step: int, accumulation: int | Mapping[int, int], steps: int) -> int:
    """Return how many batches a run has consumed after ``global_step`` optimizer steps.

    Equivalent to ``global_step * accumulation`` where that is one number and divides the epoch. Where it does not, the trainer steps
    the optimizer on the last batch of each epoch whatever has been accumulated, and the next epoch starts counting anew.

    Args:
        global_step: optimizer steps done.
        accumulation: batches an optimizer step, or those from each epoch on, from epoch 0.
        steps: batches an epoch.

    Example:
        >>> [batches_done(step, 4, steps=10) for step in range(5)]  # the third step takes the last 2 batches of the first epoch
        [0, 4, 8, 10, 14]
    """
    schedule = {0: accumulation} if isinstance(accumulation, int) else accumulation
    before, left = 0, global_step
    for epochs, batches in stretches(schedule):
        per_epoch = -(-steps // batches)
        if left < per_epoch * epochs:
            break
        before, left = before + int(epochs) * steps, left - per_epoch * int(epochs)
    epoch, rest = divmod(left, per_epoch)
    return before + epoch * steps + rest * batches
