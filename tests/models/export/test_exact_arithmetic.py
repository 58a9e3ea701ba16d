"""Comparisons leave autocast and reduced products aside."""

import torch

from inbatch.models.export.exact_arithmetic import exact_arithmetic


def test_the_comparison_is_made_in_full_precision():
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16), exact_arithmetic(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
