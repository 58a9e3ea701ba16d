"""Which precision a run computes in: the one that is set, or with `auto` what is fast on this machine, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from inbatch import arithmetic
from inbatch.kernels.trial import Rates

AUTO = "auto"
# A step is matrix products to some two thirds, the rest gains nothing: MiniLM's took 0.66 of float32's speed at bfloat16 products of 0.56
# times float32's, and 2.16 at 7.55 times; so it breaks even at 1.02, and gains a tenth at this factor.
WORTH = 1.25
# Lightning computes in bfloat16 where a CPU is told 16-mixed.
_BFLOAT16 = ("bf16-mixed", "bf16-true", "16-mixed", "bf16", "16", 16)
_FLOAT32 = ("32-true", "32", 32, None)


class Precision(NamedTuple):
    """A value of Lightning's ``precision``, and a clause that says why.

    Example:
        >>> value, reason = resolve("bf16-mixed", accelerator="mps")
        >>> f"precision {value} ({reason})"
        'precision bf16-mixed (as set)'
    """

    value: Any
    reason: str


def resolve(precision: Any, accelerator: Any = "auto", recorded: Any = None) -> Precision:
    """Return the precision of a run.

    ``auto`` is bf16-mixed on a GPU that has bfloat16, and on a CPU whose bfloat16 products are clearly faster than its float32 ones;
    else 32-true. A CPU's products are tried for that (`arithmetic.measured_rates`), and the operators of this process go by them, too. Older GPUs get 32-true, not 16-mixed: float16 needs its loss scaled, and steps that overflow are left out.

    Args:
        precision: as in a configuration: ``auto``, or a value that Lightning takes.
        accelerator: as in a configuration.
        recorded: what ``auto`` was when the run began, possibly on another machine; None for a new run.

    Example:
        >>> resolve("auto", accelerator="mps")
        Precision(value='32-true', reason='auto: bfloat16 is not tried on mps')
        >>> resolve("auto", accelerator="mps", recorded="bf16-mixed")  # a run that began on another machine
        Precision(value='bf16-mixed', reason='auto when the run began')
    """
    device = device_of(accelerator)
    automatic = _automatic(device)
    if precision != AUTO:
        return Precision(precision, "as set" + _compared(precision, automatic, device))
    if recorded is not None:
        return Precision(recorded, "auto when the run began" + _compared(recorded, automatic, device))
    return Precision(automatic.value, f"auto: {automatic.reason}")


def device_of(accelerator: Any) -> str:
    """Return the type of device that Lightning will take: cpu, cuda, mps, or the accelerator's own name.

    Example:
        >>> from lightning.pytorch.accelerators import CPUAccelerator
        >>> device_of("cpu"), device_of(CPUAccelerator())
        ('cpu', 'cpu')
    """
    if accelerator in ("auto", "gpu", None):
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return (
        accelerator if isinstance(accelerator, str) else type(accelerator).__name__.removesuffix("Accelerator").lower()
    )


def bfloat16_pays(known: Rates) -> bool:
    """Say whether a step in mixed precision is faster than one in float32 on a processor whose products reach these rates.

    Example:
        >>> bfloat16_pays(Rates(matmul=100.0, onednn=90.0, bfloat16=400.0)), bfloat16_pays(Rates(100.0, 90.0, bfloat16=110.0))
        (True, False)
    """
    return known.bfloat16 > WORTH * known.matmul


def _automatic(device: str) -> Precision:
    if device == "cuda" and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16-mixed", "this GPU has bfloat16")
        return Precision("32-true", "this GPU has no bfloat16")
    if device != "cpu":
        return Precision("32-true", f"bfloat16 is not tried on {device}")
    known = arithmetic.measured_rates()
    reason = f"products here reach {known.matmul:,.0f} GFLOP/s a thread in float32, {known.bfloat16:,.0f} in bfloat16"
    return Precision("bf16-mixed" if bfloat16_pays(known) else "32-true", reason)


def _compared(value: Any, automatic: Precision, device: str) -> str:
    """Say that another precision is faster on this device, if so."""
    if device == "cpu" and value in _BFLOAT16 and automatic.value == "32-true":
        return f"; slow on this processor, auto would take 32-true: {automatic.reason}"
    if value in _FLOAT32 and automatic.value == "bf16-mixed":
        return f"; auto would take bf16-mixed: {automatic.reason}"
    return ""
