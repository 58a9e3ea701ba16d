"""The ways that the benchmark compares: each computes the mean loss of queries against more keys than queries."""

import pytest
import torch
from torch.nn.functional import normalize

from inbatch.experiments.benchmarks import contestants


def test_all_that_run_on_a_processor_compute_the_same_loss():
    absent = []
    everyone = [*contestants.ours("cpu"), *contestants.peers("cpu", absent)]
    q, k = normalize(torch.randn(12, 16), dim=1), normalize(torch.randn(31, 16), dim=1)
    truth = contestants.naive(q.double(), k.double(), 20.0)
    for one in everyone:
        if not one.symmetric:
            assert float(one.step(*one.embeddings(q, k), 20.0).detach()) == pytest.approx(float(truth), rel=2e-2), (
                one.name
            )
    assert all("GPU" in reason or "pip install" in reason or "torch >=" in reason for reason in absent)


def test_half_precision_comes_first_on_a_gpu():
    assert [one.dtype for one in contestants.ours("cuda")][:2] == [torch.bfloat16, torch.float32]
    assert contestants.ours("cpu")[0].name == "inbatch float32"


def test_packages_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    absent = []
    found = contestants.peers("cuda", absent)
    assert {one.name for one in found} >= {"autograd cross_entropy", "torch.compile of it, bfloat16"}
    for package in ("inf-cl", "cut-cross-entropy", "liger-kernel", "quack-kernels", "sentence-transformers"):
        assert f"{package} (pip install {package})" in absent


def test_a_torch_without_its_chunked_loss_is_named(monkeypatch):
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions", raising=False)
    absent = []
    contestants.peers("cpu", absent)
    assert "torch linear_cross_entropy (torch >= 2.13)" in absent
