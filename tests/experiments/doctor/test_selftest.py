"""The self-tests pass here, and would not pass wrong arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from inbatch.experiments.doctor.selftest import (
    caching_error,
    check_arithmetic,
    infonce_error,
    relative_error,
    run_self_test,
)


def test_arithmetic_of_this_machine():
    assert [(f.topic, f.state) for f in check_arithmetic()] == [("info_nce", "ok"), ("caching", "ok")]


def test_wrong_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "inbatch.kernels.info_nce", lambda q, k, scale: (scale * q @ k.T).logsumexp(1).mean(), raising=False
    )
    error, bound = infonce_error()
    assert error > bound
    monkeypatch.setattr(
        "inbatch.kernels.map_in_chunks", lambda f, tokens, budget: f(tokens.select(slice(0, 3))), raising=False
    )
    monkeypatch.setattr(torch.Tensor, "sum", lambda t, *a: torch.sum(t * torch.rand(()), *a))
    error, bound = caching_error()
    assert error > bound


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_error_above_the_bound_or_nan_is_wrong(value: float):
    assert run_self_test("x", lambda: (value, 1e-3)).state == "wrong"


def test_a_test_that_raises_is_a_finding():
    def fails():
        raise RuntimeError("no such instruction")

    finding = run_self_test("x", fails)
    assert finding.state == "wrong"
    assert finding.text == "fails: RuntimeError: no such instruction"


def test_relative_error_is_relative_to_the_largest_value():
    assert relative_error(torch.tensor([1.0, 4.4]), torch.tensor([1.0, 4.0])) == pytest.approx(0.1)
