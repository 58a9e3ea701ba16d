"""The operator against loops over Python floats, over random arguments; its promises; its refusals by message."""

import inspect

import info_nce_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from info_nce_cases import build, cases, cast, for_oracle
from torch.nn.functional import cross_entropy, normalize

from inbatch.kernels import hardest, info_nce, log_sum, pair_logits
from inbatch.kernels.operators import chosen_backend

BACKENDS = ("reference", "chunked")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def error(found, truth, unit):
    """Largest error relative to the largest true entry or the size before cancellation."""
    found, truth = np.asarray(found, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    assert np.isfinite(found).all()
    return float(np.abs(found - truth).max(initial=0.0)) / max(float(np.abs(truth).max(initial=0.0)), unit)


def run(case, dtype, backend, **more):
    """Compute losses and all gradients of one case."""
    q, k, arguments, _, upstream = case
    arguments = {**cast(arguments, dtype), **more}
    leaves = {"query": q.to(dtype), "key": k.to(dtype), "scale": torch.tensor(arguments["scale"], dtype=torch.float64)}
    leaves |= {name: arguments[name] for name in ("positive", "extra") if name in arguments}
    leaves = {name: t.clone().requires_grad_() for name, t in leaves.items()}
    loss = info_nce(**{**arguments, **leaves}, backend=backend)
    total = (loss * torch.tensor(upstream, dtype=loss.dtype)).sum() if loss.dim() else loss
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))


def check_against_oracle(case, dtype, backend, tolerance=None, **more):
    q, k, arguments, factor, _ = case
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    given_arguments = cast(arguments, dtype)
    truth = oracle.info_nce(q.tolist(), k.tolist(), factor=factor, **for_oracle(given_arguments))
    loss, grads = run(case, dtype, backend, **more)
    weight = arguments["weight"].numpy() if "weight" in arguments else np.ones(len(q))
    losses = truth.losses * weight
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[arguments["reduction"]]
    scale = arguments["scale"]
    unit_q, unit_k = truth.unit * scale * float(k.abs().max()), truth.unit * scale * float(q.abs().max()) * len(q)
    assert error(loss, expected, 1e-30) <= tolerance or float(np.abs(expected).max()) < 1e-30
    assert error(grads["query"], truth.dq, max(unit_q, 1e-30)) <= tolerance
    assert error(grads["key"], truth.dk, max(unit_k, 1e-30)) <= tolerance
    unit_scale = truth.unit * float((q.abs().max() * k.abs().max()) * q.shape[1]) * len(q)
    assert error(grads["scale"], truth.d_scale, max(unit_scale, 1e-30)) <= tolerance
    if "positive" in grads:
        assert error(grads["positive"], truth.d_positive, max(truth.unit, 1e-30)) <= tolerance
    if "extra" in grads:
        assert error(grads["extra"], truth.d_extra, max(truth.unit, 1e-30)) <= tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@settings(max_examples=150)
@given(case=cases())
@example(
    case=build(0, b=9, more=9, d=8, scale=100.0, ids=True, id_sets=True, wildcards=True, symmetric=True, ceiling=True)
)
@example(case=build(1, b=4, more=0, d=1, scale=100.0, reduction="none", symmetric=True, unnormalised=True))
def test_equals_the_loops_for_all_arguments(backend, dtype, case):
    check_against_oracle(case, dtype, backend)


@pytest.mark.parametrize(
    "switches", [{}, {"symmetric": True}, {"ids": True, "id_sets": True}, {"guide": True}], ids=str
)
def test_any_workspace_gives_the_same_result(switches):
    case = build(3, b=9, more=5, d=6, **switches)
    for spare in (0, 100, 3000, 10**6):
        rows = 64 << 12 if "ids" in switches else 0
        for backend in ("chunked",):
            check_against_oracle(case, torch.float64, backend, workspace_bytes=2000 + rows + spare)


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


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("own", [0, None])
def test_rows_without_candidates_have_loss_and_gradient_zero(reduction, backend, own):
    q, k = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    positive = torch.zeros(3, requires_grad=True)
    extra = torch.full((3, 2), -torch.inf, requires_grad=True)
    ids = torch.tensor([1, -1, 3]), torch.full((3,), -1)
    loss = info_nce(q, k, scale=1.0, own=own, positive=positive, extra=extra, query_ids=ids[0], key_ids=ids[1],
                    reduction=reduction, backend=backend, symmetric=own == 0)  # fmt: skip
    assert loss.sum() == 0
    for grad in torch.autograd.grad(loss.sum(), (q, k, positive, extra)):
        assert (grad == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_rows_and_no_keys(backend, reduction):
    q, k = torch.zeros(0, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = info_nce(q, k, scale=1.0, reduction=reduction, backend=backend)
    assert loss.sum() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss.sum(), (q, k)))
    rows, none = torch.randn(3, 4, requires_grad=True), torch.zeros(0, 4)
    extra = torch.randn(3, 2)
    loss = info_nce(
        rows, none, scale=1.0, own=None, positive=torch.zeros(3), extra=extra, reduction="none", backend=backend
    )
    assert torch.allclose(loss, torch.nn.functional.softplus(extra.logsumexp(1)))
    assert log_sum(rows, none, scale=1.0, own=None, backend=backend).isneginf().all()
    values, indices = hardest(rows, none, 2, own=None, backend=backend)
    assert values.isneginf().all()
    assert (indices == -1).all()


@settings(max_examples=60)
@given(case=cases())
def test_log_sum_and_hardest_equal_the_loops(case):
    q, k, arguments, _, _ = case
    shared = {
        name: arguments[name] for name in ("own", "query_ids", "key_ids", "ceiling", "guide") if name in arguments
    }
    truth = oracle.info_nce(
        q.tolist(), k.tolist(), scale=arguments["scale"], positive=[0.0] * len(q), **for_oracle(shared)
    )
    for backend in BACKENDS:
        found = log_sum(q, k, scale=arguments["scale"], backend=backend, **shared)
        assert np.allclose(found, truth.log_sums, rtol=1e-12, atol=1e-9)
        rules = dict(shared)
        if "ceiling" in rules:
            rules["ceiling"] = rules["ceiling"] / arguments["scale"]
        values, indices = hardest(q, k, 3, backend=backend, **rules)
        dots = (q @ k.T).numpy()
        plain = for_oracle(rules)
        for i in range(len(q)):
            keep = [j for j in range(len(k)) if oracle.is_candidate(
                i, j, dots[i, j], plain["own"], plain.get("query_ids"), plain.get("key_ids"), plain.get("ceiling"),
                plain.get("guide"))]  # fmt: skip
            best = sorted((dots[i, j] for j in keep), reverse=True)[:3]
            count = len(best)
            assert np.allclose(values[i, :count], best, rtol=1e-12)
            assert set(indices[i, :count].tolist()) <= set(keep)
            assert values[i, count:].isneginf().all()
            assert (indices[i, count:] == -1).all()


def test_gradcheck_of_the_recomputed_gradients():
    case = build(5, b=4, more=3, d=3, scale=2.0, reduction="none", positive=True, extra=True, symmetric=True)
    q, k, arguments, _, _ = case
    leaves = [x.clone().requires_grad_() for x in (q, k, torch.tensor(2.0, dtype=torch.float64), arguments["positive"])]

    def function(query, key, scale, positive):
        return info_nce(query, key, **{**arguments, "scale": scale, "positive": positive})

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradcheck(lambda q, k, s: log_sum(q, k, scale=s), leaves[:3])


def test_the_upstream_factor_multiplies_and_the_graph_may_be_kept():
    q, k = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = info_nce(q, k, scale=3.0)
    once = torch.autograd.grad(loss, (q, k), retain_graph=True)
    again = torch.autograd.grad(5 * loss, (q, k))
    for x, y in zip(once, again):
        assert torch.allclose(5 * x, y)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_double_backward_is_refused(reduction):
    q, k = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = info_nce(q, k, scale=3.0, reduction=reduction).sum()
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(loss, q, create_graph=True)


def test_gradients_are_made_only_for_inputs_that_need_them():
    q, k = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    assert info_nce(q, k, scale=3.0).requires_grad
    frozen = torch.autograd.grad(info_nce(q, k, scale=3.0), q)[0]
    both = torch.autograd.grad(info_nce(q, k.requires_grad_(), scale=3.0), (q, k))[0]
    assert torch.equal(frozen, both)
    with torch.no_grad():
        assert not info_nce(q, k, scale=3.0).requires_grad
    scale = torch.tensor(3.0, requires_grad=True)
    found = torch.autograd.grad(info_nce(q.detach(), k.detach(), scale=scale), scale)[0]
    plain = cross_entropy(scale * q.detach() @ k.detach().T, torch.arange(6))
    assert torch.allclose(found, torch.autograd.grad(plain, scale)[0], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_round_float32(backend):
    q, k = (normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(s)), dim=1) for s in (0, 1))
    plain = info_nce(q, k, scale=100.0, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(q, k, scale=100.0, backend=backend), plain)


def test_unwritten_memory_is_never_read(monkeypatch):
    """Every buffer is poisoned with NaN when it is made."""
    empty, empty_like = torch.Tensor.new_empty, torch.empty_like
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *a, **kw: empty(self, *a, **kw).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **kw: empty_like(*a, **kw).fill_(torch.nan))
    for reduction in ("mean", "none"):
        for switches in ({}, {"symmetric": True}, {"own": "none"}):
            check_against_oracle(build(7, b=8, more=5, reduction=reduction, **switches), torch.float64, "chunked")
            check_against_oracle(build(7, b=8, more=5, reduction=reduction, **switches), torch.float64, "chunked",
                                 workspace_bytes=2200)  # fmt: skip


def test_deterministic():
    q, k = torch.randn(300, 40, requires_grad=True), torch.randn(500, 40, requires_grad=True)
    runs = [torch.autograd.grad(info_nce(q, k, scale=2.0, symmetric=True), (q, k)) for _ in range(3)]
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0]))


def test_pair_logits_in_float32_under_autocast():
    q, k = torch.randn(5, 64), torch.randn(5, 3, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(
            pair_logits(q, k, 7.0), 7 * torch.einsum("bd,bed->be", q.double(), k.double()).float(), atol=1e-4
        )
        assert pair_logits(q.bfloat16(), k[:, 0].bfloat16(), 7.0).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\(b, e, d\)"):
        pair_logits(q, torch.randn(4, 64), 1.0)


@pytest.mark.parametrize("call", [info_nce, log_sum, hardest])
def test_an_unknown_backend_is_refused(call):
    more = {} if call is hardest else {"scale": 1.0}
    with pytest.raises(ValueError, match="expected backend"):
        call(torch.randn(2, 3), torch.randn(2, 3), backend="cuda", **more)


def test_hardest_refuses_a_count_below_one():
    with pytest.raises(ValueError, match="count >= 1"):
        hardest(torch.randn(2, 3), torch.randn(2, 3), 0)


def test_the_backend_chosen_is_said():
    name, reason = chosen_backend("cpu")
    assert name == "chunked"
    assert "cpu" in reason


def test_signatures_are_the_contract():
    rules = ["own", "query_ids", "key_ids", "ceiling", "guide", "workspace_bytes", "backend"]
    assert list(inspect.signature(log_sum).parameters) == ["query", "key", "scale", *rules]
    assert list(inspect.signature(hardest).parameters) == ["query", "key", "count", *rules]
    assert list(inspect.signature(info_nce).parameters) == [
        "query", "key", "scale", "own", "query_ids", "key_ids", "positive", "extra", "ceiling", "guide", "symmetric", "weight",
        "reduction", "workspace_bytes", "backend",
    ]  # fmt: skip
