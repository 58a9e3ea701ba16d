"""The sum over pairs in blocks: equal to the dense one, whatever the blocks; refusals by message."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import on_ranks
from torch.nn.functional import logsigmoid, normalize, softplus

from inbatch.kernels import gather, pair_logits, sum_over_pairs
from inbatch.kernels.pairwise import chunked, reference

BOUNDS = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def sigmoid(s, scale, bias):
    return softplus(scale * s + bias)


def everything(s, margin, label, bias, other, scale, table):
    """Read all that a function can be handed; labels have no gradient, and the table is read at one place only."""
    return softplus(scale * s - margin * bias) * (label != other) + table[1] * s


def build(seed, b, more, d, own="first", ids="none", weighted=False):
    """Draw ``(leaves, arguments)`` in float64, of values that bfloat16 holds."""
    rng = torch.Generator().manual_seed(seed)
    n = b + more

    def exact(*shape):
        return torch.randn(shape, generator=rng).bfloat16().double()

    leaves = {
        "query": exact(b, d),
        "key": exact(n, d),
        "margin": exact(b),
        "bias": exact(n),
        "scale": exact(),
        "table": exact(3),
    }
    arguments = {"own": {"first": 0, "later": more, "none": None}[own]}
    if ids != "none":
        k, m, low = {"one": ((), (), 0), "sets": ((2,), (3,), 0), "wild": ((2,), (3,), -1)}[ids]
        arguments["query_ids"] = torch.randint(low, 2 * n, (b, *k), generator=rng)
        arguments["key_ids"] = torch.randint(low, 2 * n, (n, *m), generator=rng)
    if weighted:
        arguments["weight"] = torch.rand(b, generator=rng).bfloat16().double()
    labels = torch.randint(0, 3, (b,), generator=rng), torch.randint(0, 3, (n,), generator=rng)
    return leaves, labels, arguments


def made(case, dtype=torch.float64, function=sum_over_pairs, **more):
    """Return the sum and all gradients of a case, in float64."""
    leaves, labels, arguments = case
    leaves = {name: x.to(dtype).requires_grad_() for name, x in leaves.items()}
    q, k, margin, bias, scale, table = leaves.values()
    arguments = {name: x.to(dtype) if name == "weight" else x for name, x in arguments.items()}
    total = function(q, k, everything, rows=(margin, labels[0]), columns=(bias, labels[1]), parameters=(scale, table), **arguments,
                     **more)  # fmt: skip
    return [total.detach().double(), *(g.double() for g in torch.autograd.grad(total, list(leaves.values())))]


def close(found, truth, bound):
    return all((x - y).abs().max() <= bound * (1 + y.abs().max()) for x, y in zip(found, truth) if y.numel())


cases = st.builds(
    build, seed=st.integers(0, 2**31), b=st.integers(1, 9), more=st.integers(0, 9), d=st.integers(1, 6),
    own=st.sampled_from(["first", "later", "none"]), ids=st.sampled_from(["none", "one", "sets", "wild"]), weighted=st.booleans(),
)  # fmt: skip


@pytest.fixture
def blocks(monkeypatch):
    """Set the size of a block."""
    return partial(monkeypatch.setattr, chunked, "CACHED_BLOCK")


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@given(case=cases, shape=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_any_blocks_equal_the_dense_sum(dtype, case, shape):
    truth = made(case, function=reference.sum_over_pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "CACHED_BLOCK", shape)
        found = made(case, dtype)
    units = [float(truth[0].abs()) + 1, *(10 * float(x.abs().max()) + 1 for x in truth[1:])]
    for x, y, unit in zip(found, truth, units):
        assert (x - y).abs().max() <= BOUNDS[dtype] * 10 * unit


@given(case=cases, seed=st.integers(0, 99))
def test_the_order_of_keys_means_nothing_where_none_is_a_rows_own(case, seed):
    leaves, labels, arguments = case
    order = torch.randperm(len(leaves["key"]), generator=torch.Generator().manual_seed(seed))
    arguments = {**arguments, "own": None}
    moved = {**leaves, "key": leaves["key"][order], "bias": leaves["bias"][order]}
    ids = {"key_ids": arguments["key_ids"][order]} if "key_ids" in arguments else {}
    truth = made((leaves, labels, arguments))
    found = made((moved, (labels[0], labels[1][order]), {**arguments, **ids}))
    truth[2], truth[4] = truth[2][order], truth[4][order]
    assert close(found, truth, 1e-11)


def test_gradcheck(blocks):
    blocks((2, 3))
    leaves = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((3, 2), (5, 2), (), ())]
    assert torch.autograd.gradcheck(
        lambda q, k, scale, bias: sum_over_pairs(q, k, sigmoid, own=1, parameters=(scale, bias)), leaves
    )


def test_the_sigmoid_loss_of_the_paper(blocks):
    blocks((7, 5))
    q, k = (normalize(torch.randn(40, 8, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2))
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (10.0, -10.0))
    ours = sum_over_pairs(q, k, sigmoid, parameters=(scale, bias)) + softplus(-pair_logits(q, k, scale) - bias).sum()
    dense = -logsigmoid((2 * torch.eye(40) - 1) * (scale * q @ k.T + bias)).sum()
    leaves = (q, k, scale, bias)
    assert torch.allclose(ours, dense, rtol=1e-12)
    for x, y in zip(torch.autograd.grad(ours / 40, leaves), torch.autograd.grad(dense / 40, leaves)):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-13)


def test_the_same_blocks_give_the_same_bits():
    case = build(3, b=600, more=700, d=16, ids="one")
    runs = [made(case, torch.float32) for _ in range(3)]
    assert all(torch.equal(x, y) for run in runs[1:] for x, y in zip(run, runs[0]))
    assert close(made(case, torch.float32, workspace_bytes=2_000_000), runs[0], 1e-3)


def test_no_rows_no_keys_and_no_candidates():
    for b, n in ((0, 4), (3, 0), (0, 0)):
        q, k = torch.zeros(b, 2, requires_grad=True), torch.zeros(n, 2, requires_grad=True)
        total = sum_over_pairs(q, k, sigmoid, own=None, parameters=(1.0 * torch.ones(()), torch.zeros(())))
        assert total == 0
        assert [g.shape for g in torch.autograd.grad(total, (q, k))] == [q.shape, k.shape]
    q, k = torch.randn(3, 2, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    ids = {"query_ids": torch.full((3,), -1), "key_ids": torch.arange(5)}
    total = sum_over_pairs(q, k, torch.exp, **ids)
    assert total == 0
    assert not any(g.any() for g in torch.autograd.grad(total, (q, k)))


def test_gradients_are_made_only_for_inputs_that_need_them():
    q, k = torch.randn(6, 3, requires_grad=True), torch.randn(8, 3)
    scale, bias = torch.tensor(2.0), torch.tensor(0.5, requires_grad=True)
    both = torch.autograd.grad(sum_over_pairs(q, k, sigmoid, parameters=(scale, bias)), (q, bias))
    assert torch.equal(
        torch.autograd.grad(sum_over_pairs(q, k, sigmoid, parameters=(scale, bias.detach())), q)[0], both[0]
    )
    alone = torch.autograd.grad(sum_over_pairs(q.detach(), k, sigmoid, parameters=(scale, bias)), bias)[0]
    assert torch.equal(alone, both[1])
    with torch.no_grad():
        assert not sum_over_pairs(q, k, sigmoid, parameters=(scale, bias)).requires_grad
    assert not sum_over_pairs(q.detach(), k, torch.exp).requires_grad
    constant = sum_over_pairs(q, k, torch.ones_like)
    assert constant == 42
    assert not torch.autograd.grad(constant, q)[0].any()


def test_the_upstream_factor_multiplies_and_comes_before_the_rounding_to_float16():
    q, k = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    total = sum_over_pairs(q, k, torch.sigmoid)
    once = torch.autograd.grad(total, (q, k), retain_graph=True)
    assert all(torch.allclose(5 * x, y) for x, y in zip(once, torch.autograd.grad(5 * total, (q, k))))
    q, k = q.detach().half().requires_grad_(), k.detach().half()
    tiny = sum_over_pairs(q, k, lambda s: 1e-9 * s)
    assert torch.autograd.grad(tiny * 1e8, q)[0].any()


def test_the_upstream_factor_is_not_rounded_to_bfloat16():
    """1/1003 would be 0.2 % off in it, and so would all gradients be."""
    q, k = (normalize(torch.randn(64, 16, dtype=torch.float64)).bfloat16() for _ in range(2))
    wide = q.double().requires_grad_()
    (expected,) = torch.autograd.grad(reference.sum_over_pairs(wide, k.double(), softplus) / 1003, wide)
    (found,) = torch.autograd.grad(sum_over_pairs(q.requires_grad_(), k, softplus) / 1003, q)
    assert abs((found.double() * expected).sum() / expected.square().sum() - 1) < 5e-4


def test_autocast_changes_nothing():
    q, k = torch.randn(4, 64), torch.randn(5, 64)
    truth = sum_over_pairs(q, k, torch.sigmoid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sum_over_pairs(q, k, torch.sigmoid), truth)


def test_second_derivatives_are_refused():
    q, k = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    with pytest.raises(
        RuntimeError, match=r"differentiable once; got create_graph=True. Use inbatch.kernels.pairwise.ref"
    ):
        torch.autograd.grad(sum_over_pairs(q, k, torch.exp), q, create_graph=True)


def test_a_tensor_with_gradient_that_fn_was_not_handed_is_refused():
    q, k, scale = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3), torch.tensor(2.0, requires_grad=True)
    for inputs in (q, q.detach()):
        with pytest.raises(
            ValueError, match=r"reads one of shape \(\) whose gradient would be lost. Give it in parameters="
        ):
            sum_over_pairs(inputs, k, lambda s: s * scale.exp())
    with torch.no_grad():
        # Nothing is lost where no gradient was asked for.
        assert sum_over_pairs(q, k, lambda s: s * scale.exp()).isfinite()


def test_values_of_another_shape_or_kind_are_refused():
    q, k = torch.randn(4, 3), torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"of the shape of its dot products, \(4, 5\); got torch.float32 \(4,\)"):
        sum_over_pairs(q, k, lambda s: s.sum(1))
    with pytest.raises(ValueError, match=r"got torch.bool \(4, 5\)"):
        sum_over_pairs(q, k, lambda s: s > 0)


def test_vectors_of_another_length_are_refused():
    q, k = torch.randn(4, 3), torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"expected rows as vectors \(4,\); got \(5,\)"):
        sum_over_pairs(q, k, lambda s, x: s * x, rows=(torch.zeros(5),))
    with pytest.raises(ValueError, match=r"expected columns as vectors \(5,\); got \(5, 1\)"):
        sum_over_pairs(q, k, lambda s, x: s * x, columns=(torch.zeros(5, 1),))
    with pytest.raises(ValueError, match="expected weight as a float vector"):
        sum_over_pairs(q, k, torch.exp, weight=torch.zeros(5))
    with pytest.raises(ValueError, match="own \\+ b <= n"):
        sum_over_pairs(q, k, torch.exp, own=2)


def test_a_workspace_too_small_for_one_pair_says_what_it_lacks():
    q, k = torch.randn(4, 8), torch.randn(9, 8)
    with pytest.raises(ValueError, match="Raise workspace_bytes by at least") as caught:
        sum_over_pairs(q, k, torch.exp, workspace_bytes=100)
    missing = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert torch.allclose(
        sum_over_pairs(q, k, torch.exp, workspace_bytes=100 + missing), sum_over_pairs(q, k, torch.exp), rtol=1e-5
    )


def test_the_first_blocks_alone_sort_the_ids(monkeypatch, blocks):
    """Keys' ids are sorted once a block of keys, not once a block of pairs."""
    blocks((3, 4))
    calls, original = [], chunked.Rules.of_keys
    monkeypatch.setattr(chunked.Rules, "of_keys", lambda self, part: (calls.append(part), original(self, part))[1])
    made(build(0, b=9, more=0, d=2, ids="one"))
    assert [part.start for part in calls] == [0, 4, 8]


def test_a_compiled_step_gives_the_same_numbers():
    q, k = torch.randn(6, 4, requires_grad=True), torch.randn(9, 4)

    def step(q, k):
        return 2 * sum_over_pairs(2 * q, k, torch.sigmoid)

    compiled = torch.compile(step, backend="aot_eager")
    assert torch.allclose(*(torch.autograd.grad(f(q, k), q)[0] for f in (step, compiled)))


def of_rank(rank, q, k, cuts):
    mine = slice(cuts[rank], cuts[rank + 1])
    leaves = [x[mine].clone().requires_grad_() for x in (q, k)]
    scale, bias = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (5.0, -2.0))
    keys, own = gather(leaves[1])
    loss = sum_over_pairs(leaves[0], keys, sigmoid, own=own, parameters=(scale, bias))
    loss = loss + softplus(-pair_logits(*leaves, scale) - bias).sum()
    return loss.detach(), torch.autograd.grad(loss, (*leaves, scale, bias))


def test_two_ranks_equal_one_process():
    q, k = (torch.randn(7, 5, dtype=torch.float64) for _ in range(2))
    (whole, truth), *_ = on_ranks(1, of_rank, q, k, (0, 7))
    parts = on_ranks(2, of_rank, q, k, (0, 4, 7))
    assert torch.allclose(sum(loss for loss, _ in parts), whole)
    for index in (0, 1):
        assert torch.allclose(torch.cat([made[index] for _, made in parts]), truth[index])
    for index in (2, 3):
        assert torch.allclose(sum(made[index] for _, made in parts), truth[index])
