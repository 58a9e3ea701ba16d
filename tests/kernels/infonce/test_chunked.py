"""What the chunked backend promises beyond the numbers: bounded memory, stored tiles, restored settings."""

import pytest
import torch

from inbatch.kernels import hardest, info_nce, log_sum
from inbatch.kernels.infonce import blocking


@pytest.mark.parametrize("call", [info_nce, log_sum, hardest])
def test_a_workspace_too_small_for_one_row_says_what_it_lacks(call):
    q, k = torch.randn(4, 8), torch.randn(1000, 8)
    more = {} if call is hardest else {"scale": 1.0}
    with pytest.raises(ValueError, match="Raise workspace_bytes by at least") as caught:
        call(q, k, workspace_bytes=1000, **more)
    missing = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    call(q, k, workspace_bytes=1000 + missing, **more)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("n", "workspace"), [(2048, 1 << 20), (2048, 8 << 20), (9000, 12 << 20)])
def test_memory_stays_within_the_workspace(symmetric, n, workspace):
    """Counted by the profiler: what is alive at once, beyond inputs and gradients."""
    b, d = 1024, 16
    q, k = torch.randn(b, d, requires_grad=True), torch.randn(n, d, requires_grad=True)
    ids = torch.randint(0, 500, (b,)), torch.randint(0, 500, (n,))
    info_nce(q, k, scale=1.0)  # first-call allocations of the libraries
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        info_nce(q, k, scale=1.0, symmetric=symmetric, workspace_bytes=workspace, query_ids=ids[0], key_ids=ids[1])
    alive = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    gradients = 4 * (b + n) * d
    vectors = 40 * 8 * (b + n)
    assert peak > workspace / 4
    assert peak <= workspace + gradients + vectors


def test_all_logits_are_kept_between_two_passes_where_they_fit(monkeypatch):
    calls = []
    original = blocking.BlockedProblem.logits
    monkeypatch.setattr(blocking.BlockedProblem, "logits", lambda self, *a: (calls.append(a[0]), original(self, *a))[1])
    q, k = torch.randn(1400, 8, requires_grad=True), torch.randn(1400, 8)
    monkeypatch.setattr(blocking, "COMFORTABLE_BLOCK", 1)
    kept = torch.autograd.grad(info_nce(q, k, scale=1.0, symmetric=True), q)[0]
    assert len(calls) == 3
    calls.clear()
    bounded = torch.autograd.grad(info_nce(q, k, scale=1.0, symmetric=True, workspace_bytes=8_000_000), q)[0]
    assert len(calls) == 6
    assert torch.allclose(kept, bounded, atol=1e-7)


def test_bfloat16_logits_are_exact():
    """Products of bfloat16 values, summed in float32: the fast multipliers change nothing in the logits."""
    q, k = torch.randn(300, 64).bfloat16(), torch.randn(400, 64).bfloat16()
    found = log_sum(q, k, scale=1.0)
    assert torch.allclose(found, log_sum(q.double(), k.double(), scale=1.0).float(), rtol=1e-6, atol=1e-5)
