"""Division by norms equals torch's, but for vectors of zeros."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from inbatch.norms import unit_rows


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_equals_torchs_to_the_bit_with_its_gradient(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 7, generator=generator).to(dtype)
    weight = torch.randn(20, 7, generator=generator)
    found, expected = (
        (lambda z: (unit_rows(z), z))(x.clone().requires_grad_()),
        (lambda z: (normalize(z.to(torch.promote_types(dtype, torch.float32)), dim=-1), z))(x.clone().requires_grad_()),
    )
    assert found[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found[0].equal(expected[0])
    for out, _ in (found, expected):
        (out * weight).sum().backward()
    torch.testing.assert_close(found[1].grad, expected[1].grad)


@pytest.mark.parametrize("small", [0.0, 1e-30, 1e-38])
def test_a_vector_without_a_direction_stays_zero_and_gets_no_gradient(small):
    x = torch.full((2, 3), small)
    x[1] = 2.0
    x.requires_grad_()
    out = unit_rows(x)
    out.sum().backward()
    assert out[0].tolist() == [0.0] * 3
    assert x.grad[0].tolist() == [0.0] * 3
    assert x.grad.abs().max() < 1  # torch's own gradient of the first row is 1e12


def test_nan_and_infinity_are_not_hidden():
    assert unit_rows(torch.tensor([[math.nan, 0.0], [math.inf, 1.0]])).isnan().any(1).tolist() == [True, True]
