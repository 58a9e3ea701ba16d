"""The Triton backend, in the interpreter where there is no GPU: the loops' numbers, whatever the shape, the shift and the workspace."""

import os

import pytest
import torch
from hypothesis import given, settings
from info_nce_cases import build, cases
from info_nce_errors import errors
from torch.nn.functional import cross_entropy, normalize

from inbatch.kernels import hardest, info_nce, log_sum

pytest.importorskip("triton")
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.triton.problem import TiledProblem

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") != "1", reason="these run in the interpreter"
)


def embeddings(b, n, d, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return (normalize(torch.randn(rows, d, generator=rng), dim=1).bfloat16().to(dtype) for rows in (b, n))


def made(function, q, k, **more):
    leaves = [q.clone().requires_grad_(), k.clone().requires_grad_()]
    loss = function(*leaves, **more)
    return loss.detach().double(), *(g.double() for g in torch.autograd.grad(loss.sum(), leaves))


@settings(max_examples=60)
@given(case=cases())
def test_equals_the_loops_for_all_arguments(case):
    found = errors(case, torch.float32, "triton")
    assert max(found.values()) <= 2e-4, found


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("b", "n", "d"), [(200, 333, 96), (1, 1, 1), (33, 65, 17), (64, 64, 32)])
def test_half_precision_errs_no_more_than_plain_arithmetic(b, n, d, dtype, symmetric):
    q, k = embeddings(b, n, d, dtype=dtype)

    def plain(q, k):
        logits, target = 20.0 * (q @ k.T), torch.arange(b)
        rows = cross_entropy(logits, target)
        return (rows + cross_entropy(logits[:, :b].T, target)) / 2 if symmetric else rows

    truth = made(plain, q.double(), k.double())
    # Float16 inputs get bfloat16's gradients: exponentials, whose range is too large for float16, and the operands beside them.
    rough = made(plain, q.bfloat16(), k.bfloat16())
    found = made(info_nce, q, k, scale=20.0, symmetric=symmetric, backend="triton")
    for x, naive, ours in zip(truth, rough, found):
        slack = 2**-8 * x.abs().max() + 1e-7
        assert (ours - x).abs().max() <= (naive - x).abs().max() + slack


@pytest.mark.parametrize("cosine", [-0.9, 0.9])
@pytest.mark.parametrize("scale", [100.0, 1000.0])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_guess_that_is_not_good_enough_is_made_again(cosine, scale, symmetric, monkeypatch):
    """Towers in opposite cones empty every row under the guessed shift, which the device must notice."""
    rng = torch.Generator().manual_seed(1)
    centre = normalize(torch.randn(1, 32, generator=rng), dim=1)
    q = normalize(centre + 0.05 * torch.randn(70, 32, generator=rng), dim=1).bfloat16().float()
    k = normalize(cosine * centre + 0.05 * torch.randn(90, 32, generator=rng), dim=1).bfloat16().float()
    shifts = []
    original = TiledProblem.run
    monkeypatch.setattr(
        TiledProblem,
        "run",
        lambda self, rows, **what: (shifts.append(what.get("flag")), original(self, rows, **what))[1],
    )
    found = made(info_nce, q, k, scale=scale, symmetric=symmetric, backend="triton")
    truth = made(info_nce, q.double(), k.double(), scale=scale, symmetric=symmetric, backend="reference")
    for x, ours in zip(truth, found):
        assert (ours - x).abs().max() <= 2e-4 * x.abs().max() + 1e-30
    flags = [bool(flag) for flag in shifts if flag is not None]
    assert any(flags) == (cosine < 0)


@pytest.mark.parametrize("switches", [{}, {"symmetric": True}, {"reduction": "none", "symmetric": True}], ids=str)
def test_any_workspace_gives_the_same_result(switches):
    case = build(3, b=70, more=30, d=6, **switches)
    kept = errors(case, torch.float32, "triton")
    least = 40_000
    bounded = errors(case, torch.float32, "triton", workspace_bytes=least)
    assert max(kept.values()) <= 2e-4
    assert max(bounded.values()) <= 2e-4


def test_a_workspace_too_small_for_a_tile_says_what_it_lacks():
    q, k = embeddings(40, 500, 8)
    with pytest.raises(ValueError, match="Raise workspace_bytes by at least") as caught:
        info_nce(q, k, scale=1.0, workspace_bytes=1000, backend="triton")
    missing = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert info_nce(q, k, scale=1.0, workspace_bytes=1000 + missing, backend="triton").isfinite()


def test_all_exponentials_are_kept_between_two_passes_where_they_fit(monkeypatch):
    stored = []
    original = TiledProblem.run
    monkeypatch.setattr(
        TiledProblem,
        "run",
        lambda self, rows, **what: (stored.append(what.get("store")), original(self, rows, **what))[1],
    )
    q, k = embeddings(40, 40, 8)
    made(info_nce, q, k, scale=5.0, symmetric=True, backend="triton")
    assert stored == ["exponentials", "exponentials", "gradient"]  # the last two only if a flag is set
    stored.clear()
    made(info_nce, q, k, scale=5.0, symmetric=True, backend="triton", workspace_bytes=15_000)
    assert set(stored) == {None, "gradient"}


@pytest.mark.parametrize("symmetric", [False, True])
def test_unwritten_memory_is_never_read(symmetric, monkeypatch):
    empty = torch.Tensor.new_empty

    def poisoned(self, *a, **kw):
        made = empty(self, *a, **kw)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    for workspace in (None, 40_000):
        found = errors(build(7, b=50, more=23, symmetric=symmetric), torch.float32, "triton", workspace_bytes=workspace)
        assert max(found.values()) <= 2e-4, found


@settings(max_examples=25)
@given(case=cases())
def test_log_sum_and_hardest_equal_the_reference(case):
    q, k, arguments, _, _ = case
    names = ("own", "query_ids", "key_ids", "ceiling", "guide")
    rules = {name: arguments[name] for name in names if name in arguments}
    single = {name: t.float() if name == "ceiling" else t for name, t in rules.items()}
    truth = log_sum(q, k, scale=arguments["scale"], backend="reference", **rules)
    found = log_sum(q.float(), k.float(), scale=arguments["scale"], backend="triton", **single)
    assert torch.allclose(found.double(), truth, rtol=1e-4, atol=1e-4)
    if "ceiling" in rules:
        rules["ceiling"] = rules["ceiling"] / arguments["scale"]
        single["ceiling"] = rules["ceiling"].float()
    values, indices = hardest(q.float(), k.float(), 3, backend="triton", **single)
    expected, _ = hardest(q, k, 3, backend="reference", **rules)
    assert torch.allclose(values.double(), expected, atol=1e-5)
    assert ((indices == -1) == values.isneginf()).all()


@pytest.mark.parametrize("d", [1, 384, 768, 1000, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_width(d, dtype):
    q, k = embeddings(5, 37, d, dtype=dtype)
    truth = made(info_nce, q.double(), k.double(), scale=50.0, symmetric=True, backend="reference")
    found = made(info_nce, q, k, scale=50.0, symmetric=True, backend="triton")
    bound = 2e-4 if dtype == torch.float32 else 1e-2
    assert all((y - x).norm() <= bound * x.norm() + 1e-7 for x, y in zip(truth, found))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
def test_rows_without_any_candidate_have_no_loss_and_no_gradient(symmetric, dtype):
    q, k = embeddings(6, 9, 8, dtype=dtype)
    ids = {"query_ids": torch.full((6,), -1), "key_ids": torch.arange(9)}
    loss, dq, dk = made(info_nce, q, k, scale=20.0, symmetric=symmetric, backend="triton", **ids)
    assert loss == 0
    assert not dq.any()
    assert not dk.any()
    assert log_sum(q, k, scale=20.0, backend="triton", **ids).isneginf().all()
    assert (hardest(q, k, 2, backend="triton", **ids)[1] == -1).all()


def test_no_rows_and_no_keys():
    q, k = torch.zeros(0, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    loss = info_nce(q, k, scale=1.0, backend="triton")
    assert loss == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, (q, k)))
    rows, none, extra = torch.randn(3, 4, requires_grad=True), torch.zeros(0, 4), torch.randn(3, 2)
    arguments = {"scale": 1.0, "own": None, "positive": torch.zeros(3), "extra": extra, "backend": "triton"}
    assert torch.allclose(
        info_nce(rows, none, reduction="none", **arguments), torch.nn.functional.softplus(extra.logsumexp(1))
    )
    assert info_nce(rows, none, **arguments).isfinite()
    assert log_sum(rows, none, scale=1.0, own=None, backend="triton").isneginf().all()
    assert hardest(rows, none, 2, own=None, backend="triton")[0].isneginf().all()


def test_deterministic():
    q, k = embeddings(70, 100, 24)
    runs = [made(info_nce, q, k, scale=20.0, symmetric=True, backend="triton") for _ in range(3)]
    assert all(torch.equal(x, y) for run in runs[1:] for x, y in zip(run, runs[0]))


def test_double_precision_is_left_to_other_backends():
    q, k = embeddings(3, 4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match='backend "triton"; got torch.float64. Use backend="chunked"'):
        info_nce(q, k, scale=1.0, backend="triton")


def test_float16_takes_a_narrow_copy_of_the_keys_out_of_the_workspace():
    q, k = embeddings(4, 5, 8, dtype=torch.float16)
    problem = TiledProblem.of(q, k, 1.0, Rules.of(0, None, None, None, None), 1000)
    assert problem.narrow_key.dtype == torch.bfloat16
    assert problem.workspace == 1000 - 2 * 40
