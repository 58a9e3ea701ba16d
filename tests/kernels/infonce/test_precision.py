"""Digits: half precision, losses near zero, opposite towers at low temperature, autocast."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from inbatch.kernels import info_nce


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision_errs_no_more_than_plain_arithmetic(symmetric, reduction):
    q, k = (
        normalize(torch.randn(n, 64, generator=torch.Generator().manual_seed(n)), dim=1).bfloat16() for n in (203, 331)
    )

    def gradients(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (q, k)]
        loss = function(*leaves).double().mean()
        return loss.detach(), [g.double() for g in torch.autograd.grad(loss, leaves)]

    def naive(q, k):
        logits = 50.0 * (q @ k.T)
        rows, target = cross_entropy(logits, torch.arange(len(q)), reduction="none"), torch.arange(len(q))
        columns = cross_entropy(logits[:, : len(q)].T, target, reduction="none")
        return (rows + columns) / 2 if symmetric else rows

    def ours(q, k):
        return info_nce(q, k, scale=50.0, symmetric=symmetric, reduction=reduction)

    (truth, exact), (plain, rough), (found, made) = (
        gradients(naive, torch.float64), gradients(naive, torch.bfloat16), gradients(ours, torch.bfloat16),
    )  # fmt: skip
    assert abs(found - truth) <= abs(plain - truth) + 1e-5 * truth
    for x, naive_x, our_x in zip(exact, rough, made):
        slack = 2**-8 * x.abs().max()  # the gradient itself is stored in bfloat16
        assert (our_x - x).abs().max() <= (naive_x - x).abs().max() + slack


def test_a_gradient_scaler_comes_before_the_rounding_to_float16():
    """Gradients below float16's smallest number survive where they are multiplied first."""
    q, k = (normalize(torch.randn(64, 32, generator=torch.Generator().manual_seed(s)), dim=1).half() for s in (0, 1))
    k = normalize(q.float() + 0.3 * k.float(), dim=1).half()
    leaves = [q.clone().requires_grad_(), k.clone().requires_grad_()]
    scaled = torch.autograd.grad(65536 * info_nce(*leaves, scale=20.0) / 4096, leaves)
    wide = [q.double().requires_grad_(), k.double().requires_grad_()]
    truth = torch.autograd.grad(65536 * info_nce(*wide, scale=20.0) / 4096, wide)
    for found, x in zip(scaled, truth):
        assert found.dtype == torch.float16
        assert (found.double() - x).abs().max() <= 2e-3 * x.abs().max()


def test_keeps_its_digits_where_cross_entropy_returns_zero():
    """Gradients at losses of 1e-6 … 1e-12, right to 1e-3 in float32; cross_entropy in float32 has lost them."""
    rng = torch.Generator().manual_seed(0)
    for scale in (20.0, 24.0, 30.0):
        q = normalize(torch.randn(64, 256, generator=rng, dtype=torch.float64), dim=1).bfloat16().double()
        k = normalize(q + 0.02 * torch.randn(64, 256, generator=rng, dtype=torch.float64), dim=1).bfloat16().double()
        truth = info_nce(*(leaves := [q.clone().requires_grad_(), k.clone().requires_grad_()]), scale=scale)
        exact = torch.autograd.grad(truth, leaves)
        leaves = [q.float().requires_grad_(), k.float().requires_grad_()]
        loss = info_nce(*leaves, scale=scale)
        assert 1e-13 < float(truth.detach()) < 1e-6
        assert abs(float(loss.detach()) / float(truth.detach()) - 1) < 1e-3
        for found, x in zip(torch.autograd.grad(loss, leaves), exact):
            assert (found.double() - x).abs().max() <= 1e-3 * x.abs().max()


@pytest.mark.parametrize("cosine", [-0.6, -0.45, 0.6])
@pytest.mark.parametrize("symmetric", [False, True])
def test_towers_in_opposite_cones_at_temperature_001(cosine, symmetric):
    """A constant shift would empty rows here; the true maxima do not."""
    rng = torch.Generator().manual_seed(1)
    centre = normalize(torch.randn(64, generator=rng, dtype=torch.float64), dim=0)
    spread = 0.4
    q, k = (
        normalize(c + spread * torch.randn(128, 64, generator=rng, dtype=torch.float64) / 8, dim=1)
        for c in (centre, centre)
    )
    k = normalize(k * (1 if cosine > 0 else -1), dim=1)
    side = normalize(torch.randn(64, generator=rng, dtype=torch.float64), dim=0)
    k = normalize(abs(cosine) * k + (1 - cosine**2) ** 0.5 * side, dim=1)
    q, k = q.bfloat16().double(), k.bfloat16().double()
    results = {}
    for dtype in (torch.float64, torch.float32):
        leaves = [q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_()]
        loss = info_nce(*leaves, scale=100.0, symmetric=symmetric)
        results[dtype] = loss.detach().double(), [g.double() for g in torch.autograd.grad(loss, leaves)]
    leaves = [q.clone().requires_grad_(), k.clone().requires_grad_()]
    logits = 100 * leaves[0] @ leaves[1].T
    target = torch.arange(128)
    plain = cross_entropy(logits, target)
    plain = (plain + cross_entropy(logits.T, target)) / 2 if symmetric else plain
    exact = torch.autograd.grad(plain, leaves)
    assert abs(results[torch.float64][0] - plain.detach()) < 1e-12 * plain.detach()
    assert abs(results[torch.float32][0] - plain.detach()) < 1e-5 * plain.detach()
    for dtype, bound in ((torch.float64, 1e-11), (torch.float32, 2e-4)):
        for found, x in zip(results[dtype][1], exact):
            assert (found - x).abs().max() <= bound * x.abs().max()


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_autocast_does_not_round_float32(backend):
    q, k = (normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(s)), dim=1) for s in (0, 1))
    plain = info_nce(q, k, scale=100.0, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(q, k, scale=100.0, backend=backend), plain)
