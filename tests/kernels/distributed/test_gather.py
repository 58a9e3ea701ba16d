"""Gathering over ranks: rows in rank order, and gradients summed back to their owners."""

import pytest
import torch
from ranks import on_ranks

from inbatch.kernels import gather, info_nce
from inbatch.kernels.distributed.gather import row_counts, world_size

ROWS = {2: [4, 3], 3: [2, 2, 2], 4: [1, 3, 0, 2]}


def _gathered(rank, counts):
    first = sum(counts[:rank])
    x = torch.arange(first, first + counts[rank], dtype=torch.float64)[:, None].expand(-1, 2).clone().requires_grad_()
    rows, offset = gather(x)
    ids, _ = gather(torch.arange(first, first + counts[rank]), counts=counts)
    weight = torch.arange(1, len(rows) + 1, dtype=torch.float64)[:, None] * (rank + 1)
    (rows * weight).sum().backward()
    half, _ = gather(x.detach().bfloat16().requires_grad_())
    return rows.detach(), offset, ids, x.grad, half.dtype, row_counts(counts[rank], x.device), world_size()


@pytest.mark.parametrize("ranks", ROWS)
def test_rows_in_order_and_gradients_back_at_their_owner(ranks):
    counts = ROWS[ranks]
    total = sum(counts)
    for rank, (rows, offset, ids, grad, half, found_counts, size) in enumerate(on_ranks(ranks, _gathered, counts)):
        assert torch.equal(rows, torch.arange(total, dtype=torch.float64)[:, None].expand(-1, 2))
        assert offset == sum(counts[:rank])
        assert torch.equal(ids, torch.arange(total))
        own = torch.arange(offset + 1, offset + 1 + counts[rank], dtype=torch.float64)[:, None].expand(-1, 2)
        assert torch.equal(grad, own * sum(range(1, ranks + 1)))
        assert half == torch.bfloat16
        assert found_counts == counts
        assert size == ranks


def test_one_process_gathers_nothing():
    x = torch.randn(3, 2, requires_grad=True)
    rows, offset = gather(x)
    assert rows is x
    assert offset == 0
    assert row_counts(3, x.device) == [3]
    assert world_size() == 1


def _loss_and_gradients(rank, q, k, counts, dtype):
    first = sum(counts[:rank])
    rows = slice(first, first + counts[rank])
    q, k = q[rows].to(dtype).requires_grad_(), k[rows].to(dtype).requires_grad_()
    keys, own = gather(k, counts=counts)
    loss = info_nce(q, keys, scale=20.0, own=own, reduction="sum") * len(counts) / sum(counts)
    loss.backward()
    return loss.detach(), q.grad / len(counts), k.grad / len(counts)  # DDP averages


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_row_direction_equals_one_process(ranks, dtype, bound):
    counts = ROWS[ranks]
    q, k = (torch.randn(sum(counts), 5, dtype=torch.float64) / 2 for _ in range(2))
    leaves = q.clone().requires_grad_(), k.clone().requires_grad_()
    truth = info_nce(*leaves, scale=20.0)
    dq, dk = torch.autograd.grad(truth, leaves)
    results = on_ranks(ranks, _loss_and_gradients, q, k, counts, dtype)
    assert abs(sum(r[0].double() for r in results) / ranks - truth.detach()) <= bound * truth.detach()
    assert (torch.cat([r[1] for r in results]).double() - dq).abs().max() <= bound * dq.abs().max()
    assert (torch.cat([r[2] for r in results]).double() - dk).abs().max() <= bound * dk.abs().max()
