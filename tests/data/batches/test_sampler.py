from __future__ import annotations

import logging
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inbatch.data.batches.sampler import BatchOrder, Draw, StepSampler, batches_done, rank_slice
from inbatch.errors import UsageError


@st.composite
def orders(draw: st.DrawFn) -> BatchOrder:
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=3))
    single = draw(st.booleans())
    batch_size = draw(st.integers(2, min(sizes) if single else sum(sizes)))
    return BatchOrder(sizes, batch_size, draw(st.integers(0, 3)), single_source=single, drop_last=draw(st.booleans()))


def same(order: BatchOrder) -> BatchOrder:
    """The order again, without anything that it has kept."""
    keep = order.smallest_batch == order.batch_size
    return BatchOrder(order.sizes, order.batch_size, order.seed, single_source=order.single_source, drop_last=keep)


@given(orders(), st.integers(0, 3))
def test_each_epoch_is_a_permutation_but_for_what_fills_no_batch(order, epoch):
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    rows = np.concatenate([order.batch(step) for step in steps])
    assert len(set(rows.tolist())) == len(rows)
    assert set(rows.tolist()) <= set(range(sum(order.sizes)))
    groups = order.sizes if order.single_source else [sum(order.sizes)]
    partial = [size % order.batch_size for size in groups]
    dropped = sum(rest for rest in partial if rest == 1 or order.smallest_batch == order.batch_size)
    assert len(rows) == sum(order.sizes) - dropped


@given(orders(), st.data())
def test_a_step_is_the_same_wherever_one_begins(order, data):
    steps = data.draw(st.lists(st.integers(0, 5 * order.steps_per_epoch), max_size=5))
    forward = [order.batch(step) for step in range(5 * order.steps_per_epoch + 1)]
    for step in steps:
        assert np.array_equal(same(order).batch(step), forward[step])


@given(orders(), st.integers(1, 6), st.integers(0, 100))
def test_ranks_divide_each_batch_in_order(order, world_size, step):
    batch = order.batch(step)
    parts = [batch[rank_slice(len(batch), rank, world_size)] for rank in range(world_size)]
    assert np.array_equal(np.concatenate(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(orders(), st.integers(1, 4), st.data())
def test_a_run_resumed_at_any_step_sees_the_same_tail(order, world_size, data):
    assume(order.smallest_batch >= world_size)
    steps = order.steps_per_epoch
    first, rank = data.draw(st.integers(0, 3 * steps - 1)), data.draw(st.integers(0, world_size - 1))

    def run(start: int) -> list[Draw]:
        """All draws from a step on, the sampler being asked for a new iteration at each epoch, as a trainer does."""
        done, draws = start, []
        sampler = StepSampler(same(order), rank, world_size, steps, lambda: done)
        while done < 3 * steps:
            part = list(sampler)
            draws += part
            done += len(part)
        return draws

    whole = run(0)
    assert len(whole) == 3 * steps
    assert run(first) == whole[first:]


def test_one_process_of_64_and_two_of_32_see_the_same_batches():
    order = BatchOrder([1000], 64, seed=5)
    one = list(StepSampler(order, 0, 1, order.steps_per_epoch, lambda: 0))
    two = [list(StepSampler(order, rank, 2, order.steps_per_epoch, lambda: 0)) for rank in range(2)]
    assert [draw.rows for draw in one] == [a.rows + b.rows for a, b in zip(*two)]
    assert {len(draw.rows) for draw in two[0][:-1]} == {32}
    # Positions of rows are unique over steps and ranks, and do not depend on the number of ranks.
    for whole, a, b in zip(one, *two):
        assert (a.position, b.position) == (whole.position, whole.position + len(a.rows))


def test_positions_never_meet():
    order = BatchOrder([7, 5], 5, seed=0, single_source=True)
    seen: Counter[int] = Counter()
    for rank in range(2):
        for first in (0, order.steps_per_epoch):
            for draw in StepSampler(order, rank, 2, order.steps_per_epoch, lambda first=first: first):
                seen.update(range(draw.position, draw.position + len(draw.rows)))
    assert max(seen.values()) == 1


@given(st.lists(st.integers(10, 40), min_size=2, max_size=3), st.integers(2, 10), st.integers(0, 3))
def test_single_source_batches_hold_rows_of_one_source(sizes, batch_size, seed):
    order = BatchOrder(sizes, batch_size, seed, single_source=True)
    ends = np.cumsum(sizes)
    for step in range(2 * order.steps_per_epoch):
        assert len(set(np.searchsorted(ends, order.batch(step), side="right"))) == 1


def test_single_source_batches_do_not_come_source_by_source():
    order = BatchOrder([400, 400], 10, seed=0, single_source=True)
    sources = [order.batch(step)[0] // 400 for step in range(order.steps_per_epoch)]
    assert sum(a != b for a, b in pairwise(sources)) > 20


def test_mixed_batches_hold_the_shares_of_the_mixture():
    order = BatchOrder([100, 900], 100, seed=0, weights=[9, 1], temperature=1)
    assert order.quotas == [500, 500]
    rows = np.concatenate([order.batch(step) for step in range(10)])
    assert np.sum(rows < 100) == 500
    assert Counter(rows[rows < 100].tolist()) == dict.fromkeys(range(100), 5)
    assert all(30 <= np.sum(order.batch(step) < 100) <= 70 for step in range(10))


def test_the_last_batch_is_kept_unless_it_is_a_single_row_or_not_wanted(caplog):
    assert [len(BatchOrder([10], 4, 0).batch(step)) for step in range(3)] == [4, 4, 2]
    assert BatchOrder([10], 4, 0, drop_last=True).steps_per_epoch == 2
    with caplog.at_level(logging.INFO):
        order = BatchOrder([9], 4, 0)
    assert order.steps_per_epoch == 2
    assert "the last 1 of 9 rows of each epoch's order fill no batch" in caplog.text
    # Another row each epoch.
    assert len({frozenset(range(9)) - {*order.batch(e * 2), *order.batch(e * 2 + 1)} for e in range(20)}) > 1


@pytest.mark.parametrize(
    ("sizes", "batch_size", "single", "message"),
    [
        ([10], 11, False, "batch_size 11 is larger than the 10 rows that there are. Set a smaller data.batch_size"),
        ([5, 5], 11, False, "batch_size 11 is larger than the 10 rows"),
        ([8, 5], 6, True, "larger than the 5 rows that source 1 gives an epoch"),
        ([10], 1, False, "at least 2"),
        ([10], 0, False, "at least 2"),
    ],
)
def test_batches_that_cannot_be_filled_are_refused(sizes, batch_size, single, message):
    with pytest.raises(UsageError, match=message):
        BatchOrder(sizes, batch_size, 0, single_source=single)


def test_a_batch_of_fewer_rows_than_ranks_is_refused():
    with pytest.raises(UsageError, match="a batch of 2 rows, fewer than the 4 ranks. Set data.drop_last to true"):
        StepSampler(BatchOrder([10], 4, 0), 0, 4, 3, lambda: 0)
    StepSampler(BatchOrder([10], 4, 0, drop_last=True), 0, 4, 2, lambda: 0)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 40))
def test_batches_done_follow_the_trainer(steps, accumulation, optimizer_steps):
    """A trainer steps after each ``accumulation`` batches of an epoch and after its last one."""
    batches = done = 0
    while done < optimizer_steps:
        batches += 1
        within = (batches - 1) % steps + 1
        done += within % accumulation == 0 or within == steps
    assert batches_done(optimizer_steps, accumulation, steps) == batches
