from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inbatch.data.batches.mixing import epoch_rows, quotas
from inbatch.errors import UsageError

sizes = st.lists(st.integers(1, 10_000), min_size=1, max_size=5)


@given(sizes)
def test_without_settings_every_row_comes_once(sizes):
    assert quotas(sizes, [1.0] * len(sizes)) == sizes


@given(sizes, st.data(), st.floats(0.5, 10))
def test_an_epoch_is_divided_by_weight_and_size(sizes, data, temperature):
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sizes), max_size=len(sizes)))
    shares = [w * n ** (1 / temperature) for w, n in zip(weights, sizes)]
    exact = [sum(sizes) * share / sum(shares) for share in shares]
    assume(min(exact) >= 1)
    rows = quotas(sizes, weights, temperature)
    assert sum(rows) == sum(sizes)
    assert all(abs(got - wanted) < 1 + 1e-6 for got, wanted in zip(rows, exact))


def test_a_high_temperature_evens_out():
    assert quotas([100, 10_000], [1, 1], 1e9) == [5050, 5050]
    assert quotas([100, 10_000], [1, 1], 2) == [918, 9182]


@pytest.mark.parametrize(("weights", "temperature"), [([1, 0], 1), ([1, -1], 1), ([1, 1], 0), ([1, float("nan")], 1)])
def test_numbers_that_are_not_positive_are_refused(weights, temperature):
    with pytest.raises(UsageError, match="positive weights and temperature"):
        quotas([5, 5], weights, temperature)


def test_a_source_that_would_never_be_seen_is_refused():
    with pytest.raises(UsageError, match="source 1 would give none of an epoch's 1001 rows"):
        quotas([1000, 1], [1, 0.1])
    with pytest.raises(UsageError, match="source 0 would give none"):
        quotas([2, 1_000_000], [1, 1], 0.01)  # whose powers overflow


@given(st.integers(1, 50), st.integers(1, 120), st.integers(0, 5), st.integers(0, 2))
def test_epochs_follow_one_another_in_an_endless_row_of_permutations(size, quota, seed, source):
    epochs = 1 + 3 * size // quota
    stream = np.concatenate([epoch_rows(size, quota, seed, source, epoch) for epoch in range(epochs)])
    for start in range(0, len(stream) - size + 1, size):
        assert sorted(stream[start : start + size]) == list(range(size))


def test_seeds_sources_and_epochs_have_orders_of_their_own():
    orders = {tuple(epoch_rows(50, 50, *key)) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(orders) == 4
