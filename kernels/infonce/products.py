"""Matrix products of the chunked backend: float32 where digits matter, bfloat16 units where the operands have no more.

Which library multiplies float32, torch's own choice (MKL) or oneDNN, and whether bfloat16 is worth it, is what `trial.rates` say. Without
a trial float32 products go through oneDNN on x86 processors with AVX-512: MKL runs narrower code on processors of other makers than its
own (measured: 195 against 445 GFLOP/s on two cores).
"""

from __future__ import annotations

import torch
from torch import Tensor

from inbatch.kernels import trial

# Columns of a product that are made at once, before they are added to a sum or scaled into a block.
SLAB = 8192
SCALED_SLAB = 1024


def onednn_float32() -> bool:
    """Say whether float32 products on the CPU go through oneDNN."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and trial.has_onednn()
    known = trial.rates()
    if known is None:
        return wide
    # The other library has to be clearly faster: a tie must not be broken one way today and the other way tomorrow.
    return known.matmul <= trial.CLEARLY * known.onednn if wide else known.onednn > trial.CLEARLY * known.matmul


def bfloat16_units() -> bool:
    """Say whether the CPU multiplies bfloat16 matrices faster than float32 ones."""
    known = trial.rates()
    if known is not None:
        return known.bfloat16 > trial.CLEARLY * max(known.matmul, known.onednn)
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


def packs(like: Tensor) -> bool:
    """Say whether `packed` changes operands of this dtype and device."""
    return like.dtype == torch.float32 and like.device.type == "cpu" and onednn_float32()


def packed(b: Tensor, rows: int) -> Tensor:
    """Lay out the right operand (k, n) of many products, with some ``rows`` rows each, as oneDNN wants it: once, not each time.

    Returns:
        A copy that only `product` can read, or ``b`` itself where oneDNN is not used.
    """
    return torch.ops.mkldnn._reorder_linear_weight(b.T.contiguous(), rows) if packs(b) and b.numel() else b


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply (m, k) by (k, n), which may be `packed`, in the operands' dtype.

    On a GPU float32 is what ``torch.set_float32_matmul_precision`` says.
    """
    if b.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(a.contiguous(), b, None, "none", [], "")
    if packs(a) and a.numel() and b.numel():
        # oneDNN falls back to reference code for a slice of a wider matrix: a copy is cheap beside the product.
        a, b = a.contiguous(), b if b.T.is_contiguous() else b.contiguous()
        return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return a @ b


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Add (m, k) times (k, n) to ``out`` (m, n), by slabs of columns; ``out`` may be wider than the operands."""
    for start in range(0, b.shape[1], SLAB):
        columns = slice(start, start + SLAB)
        out[:, columns] += product(a, b[:, columns])


def slabs_of(b: Tensor, rows: int | None) -> list[Tensor]:
    """Cut the transpose of (n, k) into slabs of columns for `scaled_product`, `packed` unless ``rows`` is None."""
    slabs = [b[start : start + SCALED_SLAB].T for start in range(0, len(b), SCALED_SLAB)]
    return slabs if rows is None else [packed(slab, rows) for slab in slabs]


def scaled_product(a: Tensor, slabs: list[Tensor], scale: Tensor, out: Tensor) -> Tensor:
    """Write ``scale`` times (m, k) by the `slabs_of` an operand, (k, n), into ``out`` (m, n).

    oneDNN's entry makes its own result. Slabs of it come from memory at hand, where a whole block would be mapped, and its pages
    cleared, anew each time: that took as long product.
    """
    for index, slab in enumerate(slabs):
        columns = slice(index * SCALED_SLAB, (index + 1) * SCALED_SLAB)
        torch.mul(product(a, slab), scale, out=out[:, columns])
    return out


def slab_elements(rows: int, columns: int) -> int:
    """Temporary elements of `add_product` with an output of this shape."""
    return rows * min(columns, SLAB)
