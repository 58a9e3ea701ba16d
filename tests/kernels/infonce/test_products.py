"""Every way to multiply gives the product, also for slices and transposes."""

import pytest
import torch

from inbatch.kernels import trial
from inbatch.kernels.infonce import products


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("onednn", [True, False])
def test_products_of_slices_transposes_and_nothing(dtype, onednn, monkeypatch):
    if onednn and not trial.has_onednn():
        pytest.skip("this torch has no oneDNN float32 products")
    monkeypatch.setattr(products, "onednn_float32", lambda: onednn)
    wide = torch.randn(40, 60, dtype=torch.float64).to(dtype)
    pairs = [
        (wide, wide.T), (wide[:, :13], wide[:, 20:33].T), (wide.T[:7], wide), (wide[:1], wide.T[:, :1]),
        (wide[:0], wide.T), (wide, wide.T[:, :0]), (wide[:, :0], wide.T[:0]), (wide[::2], wide.T[:, ::3]),
    ]  # fmt: skip
    for a, b in pairs:
        truth = a.double() @ b.double()
        found = products.product(a, b).double()
        assert found.shape == truth.shape
        bound = {8: 1e-13, 4: 1e-6, 2: 1e-2}[wide.element_size()] * 60
        assert not truth.numel() or (found - truth).abs().max() <= bound


@pytest.mark.parametrize("slab", [1, 7, 100])
def test_slabs_add_up(slab, monkeypatch):
    monkeypatch.setattr(products, "SLAB", slab)
    out, a, b = torch.ones(5, 20), torch.randn(5, 6), torch.randn(6, 20)
    products.add_product(out, a, b)
    assert torch.allclose(out, 1 + a @ b, atol=1e-5)
    assert products.slab_elements(5, 20) == 5 * min(slab, 20)


@pytest.mark.parametrize("rows", [None, 5, 512])
@pytest.mark.parametrize("slab", [1, 7, 100])
def test_scaled_slabs_fill_a_part_of_a_block(slab, rows, monkeypatch):
    monkeypatch.setattr(products, "SCALED_SLAB", slab)
    a, b, block = torch.randn(5, 6), torch.randn(20, 6), torch.full((8, 20), torch.nan)
    found = products.scaled_product(a, products.slabs_of(b, rows), torch.tensor(3.0), block[:5])
    assert torch.allclose(found, 3 * a @ b.T, atol=1e-5)
    assert found.data_ptr() == block.data_ptr()
    assert block[5:].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 7), (600, 384, 96), (5, 0, 7), (5, 3, 0)])
def test_a_packed_operand_gives_the_same_product_for_any_number_of_rows(shape, dtype):
    m, k, n = shape
    torch.manual_seed(0)  # of other draws one in many is beyond the bound
    b = torch.randn(k, n, dtype=dtype)
    operand = products.packed(b, 512)
    for rows in (m, 1, 512):
        a = torch.randn(rows, k, dtype=dtype)
        truth = a.double() @ b.double()
        error = (products.product(a, operand).double() - truth).abs()
        assert error.shape == (rows, n)
        assert (
            not error.numel() or error.max() <= {8: 1e-13, 4: 1e-6, 2: 1e-2}[b.element_size()] * 100
        )  # sums of 384 products


def test_float32_is_never_rounded_to_a_faster_format():
    a, b = torch.randn(64, 128), torch.randn(128, 96)
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    try:
        error = (products.product(a, b).double() - a.double() @ b.double()).abs().max()
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert error < 1e-4


def test_the_choices_are_stable():
    assert products.onednn_float32() == products.onednn_float32()
    assert isinstance(products.bfloat16_units(), bool)
