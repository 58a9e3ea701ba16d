"""A sum over pairs takes no more than its workspace, and never a matrix of all pairs."""

import json
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import softplus

from inbatch.kernels import sum_over_pairs


def sigmoid(s, scale, bias):
    return softplus(scale * s + bias)


@pytest.mark.parametrize("workspace", [1 << 20, 4 << 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_memory_stays_within_the_workspace(workspace, dtype):
    """Counted by the profiler: what is alive at once, beyond inputs and gradients."""
    b, n, d = 1024, 2048, 16
    q, k = (torch.randn(rows, d).to(dtype).requires_grad_() for rows in (b, n))
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    ids = {"query_ids": torch.arange(b) % 500, "key_ids": torch.arange(n) % 700}
    sum_over_pairs(q, k, sigmoid, parameters=(scale, bias))  # first-call allocations of the libraries
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        sum_over_pairs(q, k, sigmoid, parameters=(scale, bias), workspace_bytes=workspace, **ids)
    alive = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    gradients, vectors = 6 * (b + n) * d, 10 * 8 * (b + n)
    assert workspace / 4 < peak <= workspace + gradients + vectors


PROGRAM = """
import json, resource, sys
import torch
from torch.nn.functional import normalize, softplus
from inbatch.kernels import sum_over_pairs

torch.set_num_threads(1)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def run(rows):
    q, k = (normalize(torch.randn(rows, 16), dim=1).requires_grad_() for _ in range(2))
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    sum_over_pairs(q, k, lambda s, scale, bias: softplus(scale * s + bias), parameters=(scale, bias)).backward()
    assert all(x.grad.isfinite().all() for x in (q, k, scale, bias))

run(64)
before = peak()
run(int(sys.argv[1]))
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize("rows", [6_144, pytest.param(16_384, marks=pytest.mark.slow)])
def test_no_matrix_of_all_pairs(rows):
    """One float32 matrix would be 144 MiB or 1 GiB, and autograd over it would hold several."""
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM, str(rows)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    matrix = rows * rows * 4 / 2**20
    assert json.loads(done.stdout.splitlines()[-1]) < matrix / 2
