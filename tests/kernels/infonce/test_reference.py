"""The truth itself: against cross_entropy, by gradcheck, and in the cases in which autograd gives NaN."""

import torch
from torch.nn.functional import cross_entropy

from inbatch.kernels import info_nce, log_sum
from inbatch.kernels.infonce.reference import log_sum_exp, row_loss


def test_equals_cross_entropy():
    q, k = torch.randn(6, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    found = info_nce(q, k, scale=3.0, own=2, backend="reference")
    assert torch.allclose(found, cross_entropy(3 * q @ k.T, torch.arange(6) + 2), rtol=1e-13)


def test_the_identity_of_the_contract():
    q, k = torch.randn(6, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    extra, positive = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    for backend in ("reference", "chunked"):
        found = info_nce(q, k, scale=2.0, positive=positive, extra=extra, reduction="none", backend=backend)
        competing = torch.logaddexp(log_sum(q, k, scale=2.0, backend=backend), extra.logsumexp(1))
        assert torch.allclose(
            found, torch.logaddexp(competing - positive, torch.zeros(6, dtype=torch.float64)), rtol=1e-13
        )


def test_gradcheck_with_every_rule():
    q, k = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 6))
    scale, positive = (torch.tensor(2.0, dtype=torch.float64), torch.randn(4, dtype=torch.float64))
    ids = {"query_ids": torch.tensor([0, 1, 2, -1]), "key_ids": torch.tensor([0, 1, 2, 3, 1, 9])}
    assert torch.autograd.gradcheck(
        lambda q, k, s, p: info_nce(q, k, scale=s, positive=p, symmetric=True, **ids, backend="reference"),
        (q, k, scale.requires_grad_(), positive.requires_grad_()),
    )


def test_softplus_is_exact_above_twenty():
    loss = row_loss(torch.tensor([25.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), None)
    assert float(loss) > 25.0


def test_minus_infinity_gives_no_nan():
    row = torch.full((2, 3), -torch.inf, requires_grad=True)
    total = log_sum_exp(row)
    loss = row_loss(total, torch.zeros(2), torch.full((2, 1), -torch.inf, requires_grad=True))
    assert total.isneginf().all()
    assert (loss == 0).all()
    assert (torch.autograd.grad(loss.sum(), row)[0] == 0).all()
    assert log_sum_exp(torch.zeros(2, 0)).isneginf().all()
