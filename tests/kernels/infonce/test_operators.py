"""The operator against loops over Python floats, over random arguments; its promises; its refusals by message."""

import inspect

import info_nce_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from info_nce_cases import build, cases, for_oracle
from info_nce_errors import errors
from torch.nn.functional import cross_entropy

from inbatch.kernels import hardest, info_nce, log_sum, pair_logits
from inbatch.kernels.infonce.selection import chosen_backend

BACKENDS = ("reference", "chunked")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@settings(max_examples=150)
@given(case=cases())
@example(
    case=build(0, b=9, more=9, d=8, scale=100.0, ids=True, id_sets=True, wildcards=True, symmetric=True, ceiling=True)
)
@example(case=build(1, b=4, more=0, d=1, scale=100.0, reduction="none", symmetric=True, unnormalised=True))
def test_equals_the_loops_for_all_arguments(backend, dtype, case):
    found = errors(case, dtype, backend)
    assert max(found.values()) <= TOLERANCE[dtype], found


@pytest.mark.parametrize(
    "switches", [{}, {"symmetric": True}, {"ids": True, "id_sets": True}, {"guide": True}], ids=str
)
def test_any_workspace_gives_the_same_result(switches):
    case = build(3, b=9, more=5, d=6, **switches)
    for spare in (0, 100, 3000, 10**6):
        rows = 64 << 12 if "ids" in switches else 0
        found = errors(case, torch.float64, "chunked", workspace_bytes=2000 + rows + spare)
        assert max(found.values()) <= TOLERANCE[torch.float64], found


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


def test_unwritten_memory_is_never_read(monkeypatch):
    """Every buffer is poisoned with NaN when it is made."""
    empty, empty_like = torch.Tensor.new_empty, torch.empty_like
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *a, **kw: empty(self, *a, **kw).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **kw: empty_like(*a, **kw).fill_(torch.nan))
    for reduction in ("mean", "none"):
        for switches in ({}, {"symmetric": True}, {"own": "none"}):
            case = build(7, b=8, more=5, reduction=reduction, **switches)
            for workspace in (None, 2200):
                found = errors(case, torch.float64, "chunked", workspace_bytes=workspace)
                assert max(found.values()) <= TOLERANCE[torch.float64], found


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
