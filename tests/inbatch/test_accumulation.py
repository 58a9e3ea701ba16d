from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from inbatch.accumulation import Stretch, optimizer_steps, scheduled, stretches
from inbatch.data.batches.sampler import batches_done


def test_the_schedule_is_the_callback_s_or_one_number():
    scheduler = SimpleNamespace(get_accumulate_grad_batches=None, scheduling={0: 1, 4: 2})
    assert scheduled(SimpleNamespace(accumulate_grad_batches=3, callbacks=[object()])) == {0: 3}
    assert scheduled(SimpleNamespace(accumulate_grad_batches=1, callbacks=[object(), scheduler])) == {0: 1, 4: 2}


def test_stretches_are_in_the_order_of_the_epochs():
    assert list(stretches({4: 2, 0: 1})) == [Stretch(4, 1), Stretch(math.inf, 2)]


@pytest.mark.parametrize("schedule", [{0: 1}, {0: 2}, {0: 1, 2: 3}, {0: 4, 1: 2, 5: 1}])
@pytest.mark.parametrize("batches", [1, 3, 4, 7])
def test_steps_and_batches_follow_the_trainer(schedule: dict[int, int], batches: int):
    """Step by step: the optimizer steps after so many batches, and after the last one of an epoch."""
    steps = 0
    for epoch in range(8):
        assert optimizer_steps(schedule, batches, epoch) == steps
        assert batches_done(steps, schedule, batches) == epoch * batches
        accumulated = schedule[max(start for start in schedule if start <= epoch)]
        for within in range(1, batches + 1):
            if within % accumulated == 0 or within == batches:
                steps += 1
                assert within == batches or batches_done(steps, schedule, batches) == epoch * batches + within
