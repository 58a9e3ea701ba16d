"""Gradient caching: chunks change memory and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inbatch.kernels import map_in_chunks
from inbatch.kernels.caching import BUSY, PADDING, chunk_sizes, observed_chunks, padding_share
from inbatch.views import TokenBatch


def tokens(rows=23, length=17, seed=0):
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows,), generator=rng)
    mask = (torch.arange(length) < lengths[:, None]).long()
    return TokenBatch(torch.randint(1, 40, (rows, length), generator=rng) * mask, mask)


class Bag(nn.Module):
    """A small per-example encoder with dropout."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.linear, self.dropout = nn.Embedding(40, 8), nn.Linear(8, 8), nn.Dropout(dropout)
        self.double()
        self.calls = []

    def forward(self, batch):
        self.calls.append(tuple(batch.input_ids.shape))
        states = (
            torch.tanh(self.linear(self.dropout(self.embedding(batch.input_ids)))) * batch.attention_mask[..., None]
        )
        return self.dropout(states).sum(1)


def gradients(module, loss):
    return torch.autograd.grad(loss, list(module.parameters()))


@pytest.mark.parametrize("budget", [1, 17, 40, 100, 10**6])
def test_many_chunks_equal_one(budget):
    module, batch = Bag(), tokens()
    whole = module(batch)
    mapped = map_in_chunks(module, batch, budget=budget)
    assert torch.allclose(mapped, whole, atol=1e-12)
    weight = torch.randn(whole.shape, dtype=whole.dtype)
    for x, y in zip(gradients(module, (whole * weight).sum()), gradients(module, (mapped * weight).sum())):
        assert torch.allclose(x, y, atol=1e-12)


def test_with_dropout_recomputed_chunks_equal_kept_chunks_bitwise(monkeypatch):
    module, batch = Bag(dropout=0.3), tokens()

    def run():
        torch.manual_seed(5)
        out = map_in_chunks(module, batch, budget=60)
        return out.detach(), gradients(module, out.pow(2).sum())

    recomputed = run()
    monkeypatch.setattr("inbatch.kernels.caching._checkpointed", lambda function, chunk: function(*chunk))
    kept = run()
    assert torch.equal(recomputed[0], kept[0])
    assert all(torch.equal(x, y) for x, y in zip(recomputed[1], kept[1]))


def test_all_chunks_but_the_last_are_recomputed():
    module, batch = Bag(), tokens()
    out = map_in_chunks(module, batch, budget=60)
    chunks = len(module.calls)
    assert chunks > 2
    out.sum().backward()
    assert len(module.calls) == 2 * chunks - 1
    assert all(rows * length <= 60 for rows, length in module.calls)


def test_nothing_is_recomputed_without_gradients_or_with_one_chunk():
    module, batch = Bag(), tokens()
    map_in_chunks(module, batch, budget=None).sum().backward()
    assert len(module.calls) == 1
    with torch.no_grad():
        assert not map_in_chunks(module, batch, budget=60).requires_grad


@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=60), budget=st.one_of(st.none(), st.integers(1, 200)))
def test_chunks_cover_the_rows_within_the_budget(lengths, budget):
    lengths = sorted(lengths, reverse=True)
    sizes = chunk_sizes(lengths, budget)
    assert sum(sizes) == len(lengths)
    start = 0
    for size in sizes:
        assert size >= 1
        assert size == 1 or budget is None or size * lengths[start] <= budget
        start += size


@given(lengths=st.lists(st.integers(1, 600), min_size=1, max_size=300), budget=st.integers(600, 40_000))
def test_no_chunk_of_any_size_holds_more_than_a_tenth_of_padding(lengths, budget):
    ordered = sorted(lengths, reverse=True)
    start = computed = 0
    for size in chunk_sizes(ordered, budget):
        padded = size * ordered[start]
        kept = sum(ordered[start : start + size])
        computed += padded
        # The last row that was taken may have tipped a chunk that was not yet large enough to be ended.
        assert padded - kept <= PADDING * padded + 1e-9 or kept - ordered[start + size - 1] < BUSY
        start += size
    assert padding_share(torch.tensor(lengths), budget) == pytest.approx(1 - sum(lengths) / computed)


def test_several_batches_are_cut_at_the_same_rows_and_tuples_come_back_in_order():
    batch, other = tokens(seed=1), tokens(length=9, seed=2)
    vectors = torch.randn(23, 4, requires_grad=True)

    def function(a, b, v):
        count = a.attention_mask.sum(1) + b.attention_mask.sum(1)
        return (v * count[:, None]), a.input_ids.sum(1) - b.input_ids.sum(1)

    expected = function(batch, other, vectors)
    found = map_in_chunks(function, batch, other, vectors, budget=50)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(*(torch.autograd.grad(x[0].sum(), vectors)[0] for x in (found, expected)))


def test_plain_tensors_alone_count_as_length_one():
    x = torch.randn(7, 3)
    sizes = []
    found = map_in_chunks(lambda rows: (sizes.append(len(rows)), rows * 2)[1], x, budget=3)
    assert torch.equal(found, 2 * x)
    assert sizes == [3, 3, 1]


def test_the_generator_of_the_batch_is_found_although_the_container_is_no_tensor(monkeypatch):
    """torch saves generator states of the devices of tensor arguments only; a container must bring one."""
    seen = []
    import inbatch.kernels.caching as caching

    original = caching.checkpoint
    monkeypatch.setattr(
        caching, "checkpoint", lambda run, *args, **kw: (seen.append(args), original(run, *args, **kw))[1]
    )
    map_in_chunks(Bag(), tokens(), budget=60)
    assert seen
    assert all(len(args) == 1 and isinstance(args[0], torch.Tensor) for args in seen)


def test_empty_and_unequal_batches_and_bad_budgets_are_refused():
    with pytest.raises(ValueError, match="positive number of rows"):
        map_in_chunks(lambda x: x, torch.zeros(0, 2))
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        map_in_chunks(lambda x, y: x, torch.zeros(2, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="budget=0"):
        map_in_chunks(lambda x: x, torch.zeros(2, 2), budget=0)


def test_observers_are_told_of_each_chunk_in_both_directions():
    module, batch, told = Bag(), tokens(), []
    with observed_chunks(lambda *state: told.append((len(module.calls), *state))):
        out = map_in_chunks(module, batch, budget=60)
        chunks = len(module.calls)
        assert told == [(number, "forward", number, chunks) for number in range(chunks)]
        told.clear()
        out.sum().backward()
        assert told == [(chunks + number, "backward", number + 1, chunks) for number in range(chunks - 1)]
        told.clear()
        with torch.no_grad():
            map_in_chunks(module, batch)
        assert [state[1:] for state in told] == [("forward", 0, 1)]
    map_in_chunks(module, batch)
    assert len(told) == 1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_an_observer_can_end_a_pass(direction):
    def stop(going, done, total):
        if (going, done) == (direction, 2):
            raise KeyError("enough")

    module, batch = Bag(), tokens()
    with pytest.raises(KeyError, match="enough"), observed_chunks(stop):
        map_in_chunks(module, batch, budget=60).sum().backward()
    again = gradients(module, map_in_chunks(module, batch, budget=60).sum())  # nothing is left behind
    for x, y in zip(again, gradients(module, module(batch).sum())):
        assert torch.allclose(x, y, atol=1e-12)
