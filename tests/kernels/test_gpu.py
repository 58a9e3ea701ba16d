"""The Triton backend on a real GPU: the same numbers as float64, the same bits each time, no waiting, beyond 2^31, in bounded memory."""

import pytest
import torch
from torch.nn.functional import normalize

from inbatch.kernels import hardest, info_nce, log_sum
from inbatch.kernels.infonce import selection

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
BOUNDS = {torch.float32: 2e-4, torch.bfloat16: 1e-2, torch.float16: 1e-2}
RULES = ("none", "ids", "id sets", "ceiling", "guide", "extra")
SHAPES = [(200, 333, 96), (1, 1, 1), (513, 1025, 384), (256, 300, 768), (130, 140, 1000), (65, 70, 4096)]


def embeddings(b, n, d, dtype, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return (normalize(torch.randn(rows, d, generator=rng), dim=1).to(DEVICE, dtype) for rows in (b, n))


def rules(b, n, what):
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(-1, 50, (b,), generator=rng), torch.randint(-1, 50, (n,), generator=rng)
    sets = torch.randint(-1, 200, (b, 2), generator=rng), torch.randint(-1, 200, (n, 3), generator=rng)
    guides = [normalize(torch.randn(rows, 33, generator=rng), dim=1) for rows in (b, n)]
    made = {
        "none": {},
        "ids": {"query_ids": ids[0], "key_ids": ids[1]},
        "id sets": {"query_ids": sets[0], "key_ids": sets[1]},
        "ceiling": {"ceiling": torch.full((b,), 1.5)},
        "guide": {"guide": (*guides, torch.full((b,), 0.2))},
        "extra": {"extra": torch.randn(b, 3, generator=rng), "weight": torch.rand(b, generator=rng)},
    }[what]

    def move(x):
        return tuple(map(move, x)) if isinstance(x, tuple) else x.to(DEVICE)

    return {name: move(x) for name, x in made.items()}


def made(q, k, **more):
    leaves = [q.detach().clone().requires_grad_(), k.detach().clone().requires_grad_()]
    loss = info_nce(*leaves, **more)
    return [loss.detach().double(), *(g.double() for g in torch.autograd.grad(loss.sum(), leaves))]


def double(arguments):
    def widen(x):
        if isinstance(x, tuple):
            return tuple(map(widen, x))
        return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    return {name: widen(x) for name, x in arguments.items()}


@pytest.mark.parametrize("how", [{}, {"symmetric": True}, {"reduction": "none", "symmetric": True}], ids=str)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize(
    ("shape", "what"),
    # Each pair of a rule and a shape compiles kernels of its own: all rules on two shapes, two rules on the others.
    [(shape, what) for shape in SHAPES for what in (RULES if shape in SHAPES[::3] else ("none", "ids"))],
    ids=str,
)
def test_equals_float64(shape, what, dtype, how):
    b, n, d = shape
    q, k = embeddings(b, n, d, dtype)
    arguments = {"scale": 20.0, **rules(b, n, what), **how}
    truth = made(q.double(), k.double(), backend="reference", **double(arguments))
    for workspace in (None, 64 << 20):
        found = made(q, k, backend="triton", workspace_bytes=workspace, **arguments)
        for x, y in zip(truth, found):
            # A ceiling compares logits: one at the edge may fall to either side, which random embeddings do not meet.
            assert (y - x).norm() <= BOUNDS[dtype] * x.norm() + 1e-7


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_auto_takes_triton_without_a_warning(dtype, recwarn):
    selection.verdicts.clear()
    assert selection.backend_of("auto", torch.zeros(1, device=DEVICE, dtype=dtype)).name == "triton"
    assert not [w for w in recwarn if "info_nce" in str(w.message)]


@pytest.mark.parametrize("temperature", [0.05, 0.02, 0.01])
def test_a_loss_of_a_millionth_keeps_its_gradient(temperature):
    from inbatch.experiments.benchmarks.regimes import embeddings as regime

    q, k = regime("converged", 2048, 768, 1 / temperature, DEVICE)
    truth = made(q.double(), k.double(), scale=1 / temperature, backend="reference")
    for dtype, bound in ((torch.float32, 1e-3), (torch.bfloat16, 3e-3)):
        found = made(q.to(dtype), k.to(dtype), scale=1 / temperature, backend="triton")
        assert all((y - x).norm() <= bound * x.norm() for x, y in zip(truth, found))


@pytest.mark.parametrize("symmetric", [False, True])
def test_five_runs_give_the_same_bits(symmetric):
    q, k = embeddings(3000, 5000, 384, torch.bfloat16)
    runs = [made(q, k, scale=50.0, symmetric=symmetric, backend="triton", workspace_bytes=32 << 20) for _ in range(5)]
    assert all(torch.equal(x, y) for run in runs[1:] for x, y in zip(run, runs[0]))


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_host_does_not_wait_for_the_device(symmetric, learnt):
    q, k = embeddings(512, 1024, 384, torch.bfloat16)
    scale = torch.tensor(50.0, device=DEVICE, requires_grad=True) if learnt else 50.0
    ids = torch.arange(512, device=DEVICE), torch.arange(1024, device=DEVICE)
    arguments = {"scale": scale, "symmetric": symmetric, "query_ids": ids[0], "key_ids": ids[1], "backend": "triton"}
    q.requires_grad_()
    info_nce(q, k, **arguments).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        info_nce(q, k, **arguments).backward()  # a wait would raise
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_memory_stays_within_the_workspace(symmetric):
    workspace = 256 << 20
    q, k = (x.requires_grad_() for x in embeddings(16384, 16384, 384, torch.bfloat16))
    info_nce(q, k, scale=20.0, symmetric=symmetric, backend="triton", workspace_bytes=workspace)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    info_nce(q, k, scale=20.0, symmetric=symmetric, backend="triton", workspace_bytes=workspace).backward()
    gradients = 2 * 16384 * 384 * (4 + 2)
    assert torch.cuda.max_memory_allocated() - before <= workspace + 2 * gradients + (64 << 20)


def room(gigabytes):
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < gigabytes << 30:
        pytest.skip(f"needs {gigabytes} GB of free memory")


def test_more_keys_than_int32_can_index():
    room(40)
    rows, n, d = 128, (1 << 22) + 3, 512
    q = normalize(torch.randn(rows, d, device=DEVICE), dim=1).bfloat16()
    k = torch.zeros(n, d, device=DEVICE, dtype=torch.bfloat16)
    # Beyond the 2^31st number, each query meets itself: an offset that wraps around finds zeros.
    k[-rows:] = q
    found = log_sum(q, k, scale=50.0, own=None, backend="triton").double()
    similar = (q.double() @ q.double().T * 50).exp().sum(1) + (n - rows)
    assert torch.allclose(found, similar.log(), atol=1e-3)
    values, indices = hardest(q, k, 1, own=None, backend="triton", workspace_bytes=8 << 30)
    assert torch.equal(indices[:, 0], torch.arange(n - rows, n, device=DEVICE))
    assert torch.allclose(values[:, 0], q.float().square().sum(1), atol=1e-4)


def test_more_queries_than_int32_can_index():
    room(60)
    b, n, d = (1 << 22) + 5, 640, 512
    k = normalize(torch.randn(n, d, device=DEVICE), dim=1).bfloat16()
    q = torch.zeros(b, d, device=DEVICE, dtype=torch.bfloat16)
    q[-n:] = k
    found = log_sum(q, k, scale=50.0, own=None, backend="triton", workspace_bytes=16 << 30)[-n:].double()
    assert torch.allclose(found, (k.double() @ k.double().T * 50).exp().sum(1).log(), atol=1e-3)


def test_a_block_larger_than_int32_can_index():
    room(60)
    b, n, d = 8192, 1 << 19, 64
    q, k = embeddings(b, n, d, torch.bfloat16)
    whole = made(q, k, scale=20.0, backend="triton", workspace_bytes=24 << 30)
    pieces = made(q, k, scale=20.0, backend="triton", workspace_bytes=1 << 30)
    assert all((x - y).norm() <= 1e-3 * x.norm() for x, y in zip(whole, pieces))


def test_a_compiled_step_is_one_graph():
    layer = torch.nn.Linear(96, 64, device=DEVICE)
    x = torch.randn(300, 96, device=DEVICE)

    def step(x):
        z = normalize(layer(x), dim=1)
        return info_nce(z.bfloat16(), z.flip(0).bfloat16(), scale=20.0)

    plain = torch.autograd.grad(step(x), list(layer.parameters()))
    compiled = torch.autograd.grad(torch.compile(step, fullgraph=True)(x), list(layer.parameters()))
    assert all(torch.allclose(a, b, rtol=2e-2, atol=1e-4) for a, b in zip(plain, compiled))


def test_memory_that_runs_out_is_asked_for_again(monkeypatch):
    from inbatch.kernels.infonce.triton.problem import TiledProblem

    q, k = embeddings(200, 333, 96, torch.bfloat16)
    truth = made(q, k, scale=20.0, backend="triton")
    make, failed = TiledProblem.block, []

    def block(self, *args):
        if not failed:
            failed.append(True)
            torch.empty(1 << 50, device=DEVICE)
        return make(self, *args)

    monkeypatch.setattr(TiledProblem, "block", block)
    assert all(torch.equal(x, y) for x, y in zip(truth, made(q, k, scale=20.0, backend="triton")))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_on_another_gpu_than_the_current_one():
    q, k = (x.to("cuda:1") for x in embeddings(200, 333, 96, torch.bfloat16))
    truth = made(q.double(), k.double(), scale=20.0, backend="reference")
    assert all((y - x).norm() <= 1e-2 * x.norm() for x, y in zip(truth, made(q, k, scale=20.0)))
