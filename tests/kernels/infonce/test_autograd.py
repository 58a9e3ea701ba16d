"""The operator as operations of torch: what a compiler sees of them, and what their derivatives can do."""

import pytest
import torch
from torch.nn.functional import normalize

from inbatch.kernels import hardest, info_nce, log_sum
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.inputs import spell


def step(layer, temperature, x, y, ids, **how):
    q, k = normalize(layer(x)), normalize(layer(y))
    ceiling = hardest(q, k, 2, query_ids=ids[0], key_ids=ids[1])[0][:, 0] + 1
    scale = temperature.exp()
    loss = info_nce(q, k, scale=scale, query_ids=ids[0], key_ids=ids[1], ceiling=scale.detach() * ceiling, **how)
    return loss.sum() + log_sum(q, k, scale=2.0).sum()


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "how", [{}, {"symmetric": True}, {"reduction": "none"}, {"reduction": "none", "symmetric": True}]
)
def test_a_compiled_step_is_one_graph_with_the_same_numbers(how, dynamic):
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer, temperature = torch.nn.Linear(16, 8), torch.tensor(2.0, requires_grad=True)
    x, y, ids = torch.randn(12, 16), torch.randn(20, 16), (torch.arange(12) % 5, torch.arange(20) % 7)
    wanted = (*layer.parameters(), temperature)
    truth = torch.autograd.grad(step(layer, temperature, x, y, ids, **how), wanted)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for _ in range(2):
        loss = compiled(layer, temperature, x, y, ids, **how)
        assert all(torch.equal(a, b) for a, b in zip(truth, torch.autograd.grad(loss, wanted)))


def test_the_upstream_factor_is_not_rounded_to_bfloat16():
    """One over 1,003 is 0.2 % larger in bfloat16, and would scale every gradient so; single elements are rounded, up and down."""
    torch.manual_seed(0)
    q, k = (normalize(torch.randn(64, 16), dim=1).bfloat16().requires_grad_() for _ in range(2))
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    made = torch.autograd.grad(info_nce(q, k, scale=20.0, reduction="sum") / 1003, (q, k))
    truth = torch.autograd.grad(info_nce(*wide, scale=20.0, reduction="sum") / 1003, wide)
    for mine, true in zip(made, truth):
        assert mine.dtype == torch.bfloat16
        assert abs((mine.double() * true).sum() / true.square().sum() - 1) < 5e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", ["auto", "chunked"])
@pytest.mark.parametrize("name", ["reduced", "log_sums", "log_sum_gradients", "hardest"])
def test_operations_keep_what_their_schemas_promise(name, backend, dtype):
    q, k = (torch.randn(rows, 8).to(dtype).requires_grad_() for rows in (5, 9))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.tensor(3.0, dtype=wide, requires_grad=True)
    row, extra = torch.randn(5, dtype=wide), torch.randn(5, 2, dtype=wide, requires_grad=True)
    more = {
        "reduced": {"scale": scale, "positive": None, "extra": extra, "weight": None, "symmetric": True, "reduction": "mean",
                    "wanted": [True, True, True, False, True]},
        "log_sums": {"scale": scale, "columns": True},
        "log_sum_gradients": {"scale": scale.detach(), "row": row, "d_row": row, "column": row, "d_column": row,
                              "wanted": [True, False, True]},
        "hardest": {"count": 3},
    }[name]  # fmt: skip
    if name in ("hardest", "log_sum_gradients"):
        q, k = q.detach(), k.detach()
    rules = spell(Rules.of(1, None, None, None, None))
    given = {"query": q, "key": k, **rules, "workspace": None, "backend": backend, **more}
    torch.library.opcheck(getattr(torch.ops.inbatch, name).default, (), given, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("call", [info_nce, log_sum])
def test_a_bad_scale_is_found_in_a_compiled_step_when_it_runs(call, value):
    torch._dynamo.reset()
    q, k = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    compiled = torch.compile(lambda scale: call(q, k, scale=scale), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="positive, finite scale"):
        compiled(torch.tensor(value))


def test_a_graph_that_is_retained_gives_the_same_gradients_again_and_scaled_ones():
    q, k = torch.randn(4, 8, requires_grad=True), torch.randn(7, 8, requires_grad=True)
    for loss in (info_nce(q, k, scale=3.0), log_sum(q, k, scale=3.0).mean()):
        first = torch.autograd.grad(loss, (q, k), retain_graph=True)
        again = torch.autograd.grad(1024 * loss, (q, k), retain_graph=True)
        assert all(torch.equal(1024 * x, y) for x, y in zip(first, again))
        # The loss alone is differentiable, not the gradients that came with it.
        assert loss.grad_fn is not None
