"""One call of the chunked backend: the size of its blocks, the dtype of its operands, and when keys are laid out anew."""

import torch

from inbatch.kernels.infonce import blocking
from inbatch.kernels.infonce.candidates import Rules


def problem(b, n, d=8, workspace=None, dtype=torch.float32):
    return blocking.BlockedProblem.of(torch.randn(b, d, dtype=dtype), torch.randn(n, d, dtype=dtype), 1.0,
                              Rules.of(0, None, None, None, None), workspace)  # fmt: skip


def test_blocks_stay_comfortable_and_never_exceed_the_rows():
    assert problem(10, 20).block_rows(1) == 10
    assert problem(100_000, 50_000).block_rows(1) == 512
    assert 512 < problem(100_000, 5000).block_rows(1) < 100_000


def test_gradient_products_are_narrow_for_bfloat16_only(monkeypatch):
    monkeypatch.setattr(blocking, "bfloat16_units", lambda: True)
    assert problem(4, 4, dtype=torch.bfloat16).narrow
    assert not problem(4, 4, dtype=torch.float16).narrow
    assert not problem(4, 4, dtype=torch.float64).narrow
    monkeypatch.setattr(blocking, "bfloat16_units", lambda: False)
    assert not problem(4, 4, dtype=torch.bfloat16).narrow


def test_keys_are_laid_out_anew_where_that_takes_no_more_than_a_quarter_of_the_workspace(monkeypatch):
    monkeypatch.setattr(blocking, "packs", lambda like: like.dtype == torch.float32)
    copies = 3 * 4 * 100 * 8
    assert problem(4, 100, workspace=4 * copies).packing
    assert problem(4, 100, workspace=4 * copies).workspace == 3 * copies
    assert not problem(4, 100, workspace=4 * copies - 1).packing
    assert problem(4, 100, workspace=4 * copies - 1).workspace == 4 * copies - 1
    assert not problem(4, 100, dtype=torch.float64).packing


def test_copies_of_half_precision_count_but_never_take_all_of_the_usual_workspace(monkeypatch):
    monkeypatch.setattr(blocking, "packs", lambda like: False)
    assert problem(10, 20, workspace=1 << 20, dtype=torch.float16).workspace == (1 << 20) - 4 * 30 * 8
    usual = problem(10, 20, dtype=torch.float64).workspace
    assert problem(3, 200_000, d=384, dtype=torch.float16).workspace == usual // 4
