"""Rows by an index: their values, and one gradient at every run."""

import torch

from inbatch.kernels.rows import take


def test_equals_indexing_in_value_and_gradient():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index, weight = torch.tensor([4, 0, 0, 2, 4, 4]), torch.randn(6, 3, dtype=torch.float64)
    assert torch.equal(take(x, index), x[index])
    (gradient,) = torch.autograd.grad((take(x, index) * weight).sum(), x)
    assert torch.allclose(gradient, torch.zeros(5, 3, dtype=torch.float64).index_add(0, index, weight))


def test_several_threads_add_in_one_order():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3, 64, generator=generator, requires_grad=True)
        index = torch.randint(3, (8192,), generator=generator)
        weight = torch.randn(8192, 64, generator=generator)
        first, *others = (torch.autograd.grad((take(x, index) * weight).sum(), x)[0] for _ in range(10))
        assert all(torch.equal(first, other) for other in others)
    finally:
        torch.set_num_threads(threads)
