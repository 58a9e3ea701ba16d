"""Finding equal ids by sorting equals comparing all pairs, also when nearly all of them are equal."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.kernels.infonce import candidates
from inbatch.kernels.infonce.candidates import Matches, Rules
from inbatch.kernels.infonce.reference import candidates as dense


@given(
    b=st.integers(1, 12), n=st.integers(1, 12), k=st.integers(1, 3), m=st.integers(1, 3), values=st.integers(1, 30),
    low=st.sampled_from([-1, 0]), seed=st.integers(0, 10**6), piece=st.sampled_from([1, 7, 1 << 14]),
)  # fmt: skip
def test_equals_all_pairs(b, n, k, m, values, low, seed, piece):
    rng = torch.Generator().manual_seed(seed)
    q, other = torch.randint(low, values, (b, k), generator=rng), torch.randint(low, values, (n, m), generator=rng)
    matches = Matches.find(q, other)
    before, candidates.PIECE = candidates.PIECE, piece
    try:
        logits = torch.zeros(b, n)
        for start in range(0, b, 5):
            matches.exclude_(logits[start : start + 5], start)
    finally:
        candidates.PIECE = before
    keep = dense(torch.zeros(b, n), None, q, other, None, None)
    assert torch.equal(logits.isneginf(), ~keep)


def test_rules_say_the_memory_they_take():
    ids = torch.arange(4)
    guide = (torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4))
    assert Rules.of(0, None, None, None, None).bytes_per_row(100) == 0
    assert Rules.of(0, None, None, torch.zeros(4), None).bytes_per_row(100) == 100
    assert Rules.of(0, None, None, None, guide).bytes_per_row(100) == 500
    assert Rules.of(0, ids, ids, None, None).fixed_bytes() > 0


@given(
    b=st.integers(1, 6), more=st.integers(0, 6), later=st.booleans(), start=st.integers(0, 11), stop=st.integers(1, 12),
    row=st.integers(0, 5), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_rules_of_some_keys_are_those_columns_of_all(b, more, later, start, stop, row, seed):
    rng = torch.Generator().manual_seed(seed)
    n, own = b + more, more if later else 0
    ids = torch.randint(-1, 9, (b, 2), generator=rng), torch.randint(-1, 9, (n,), generator=rng)
    rules = Rules.of(own, *ids, torch.zeros(b), (torch.randn(b, 2), torch.randn(n, 2), torch.zeros(b)))
    columns, row = slice(min(start, n - 1), max(min(start, n - 1) + 1, stop)), min(row, b - 1)
    logits = torch.randn(b, n, generator=rng)
    whole = rules.exclude_(logits.clone(), 0, value=7.0)
    part = rules.of_keys(columns).exclude_(logits[row:, columns].clone(), row, value=7.0)
    assert torch.equal(part, whole[row:, columns])
