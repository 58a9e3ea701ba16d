"""What this machine's processor is, and what its matrix products reach: tried once, then kept in the user's cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from inbatch.cache import cache_folder
from inbatch.files import replace_file
from inbatch.kernels import trial
from inbatch.kernels.trial import Rates

# What makes the libraries take other code than the processor's best.
SWITCHES = (
    *("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
)
# Units that matter for products: the flag of Linux, and what people call it. ARM's are asimd, sve and bf16.
UNITS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bfloat16",
    "amx_bf16": "AMX bfloat16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "bfloat16",
}


def measured_rates(anew: bool = False) -> Rates:
    """Return what products reach on this processor, and let the operators of this process go by it.

    They are tried where the cache folder does not have them yet, which takes a quarter of a second; a cache that is damaged or cannot
    be written costs that each time.

    Args:
        anew: try them whatever is in the cache, and keep that.

    Example:
        >>> from unittest.mock import patch
        >>> before = trial.rates()
        >>> with patch.dict(os.environ, INBATCH_CACHE="cache"):
        ...     measured_rates() == measured_rates()  # the second time out of the cache: no two trials give the same numbers
        True
        >>> trial.tell(before)
    """
    path, key = rates_file(), _key()
    known = None if anew else _kept(path).get(key)
    if known is None:
        tried = trial.try_products()
        # Of processes that try at the same time, the first to keep its rates speaks for all.
        known = (None if anew else _kept(path).get(key)) or tried
        _keep(path, key, known)
    trial.tell(known)
    return known


def rates_file() -> Path:
    """Return the file in which rates are kept, by processor.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, INBATCH_CACHE="/scratch/cache"):
        ...     print(rates_file())
        /scratch/cache/products.json
    """
    return cache_folder() / "products.json"


def float32_by() -> str:
    """Name the library that multiplies float32 for the operators of this process.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("inbatch.kernels.infonce.products.onednn_float32", return_value=True):  # as it is with AVX-512, mostly
        ...     float32_by()
        'oneDNN'
    """
    from inbatch.kernels.infonce.products import onednn_float32

    return "oneDNN" if onednn_float32() else "MKL" if torch.backends.mkl.is_available() else "torch's BLAS"


def processor() -> str:
    """Name the processor, as its maker does where that can be found out.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.object(Path, "read_text", return_value="model name : AMD EPYC 9654"):  # what Linux says in /proc/cpuinfo
        ...     processor()
        'AMD EPYC 9654'
    """
    return _facts().get("model name") or _brand() or platform.processor() or platform.machine() or "unknown processor"


def units() -> str:
    """List the units of the processor that multiply matrices, and what keeps the libraries from them.

    Example:
        >>> from unittest.mock import patch
        >>> with (
        ...     patch.object(Path, "read_text", return_value="flags : fpu avx2 avx512f avx512_bf16"),
        ...     patch.dict(os.environ, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, clear=True),
        ... ):
        ...     units()
        'AVX2, AVX-512, AVX-512 bfloat16; limited by ONEDNN_MAX_CPU_ISA=AVX2'
    """
    flags = (_facts().get("flags") or _facts().get("Features") or "").split()
    found = [name for flag, name in UNITS.items() if flag in flags] or [torch.backends.cpu.get_cpu_capability()]
    limits = [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]
    return ", ".join(found) + (f"; limited by {' '.join(limits)}" if limits else "")


def _key() -> str:
    facts = _facts()
    # Clouds name very different processors alike: family, model, and what it can do tell them apart.
    identity = [facts.get(name, "") for name in ("vendor_id", "cpu family", "model", "stepping", "flags", "Features")]
    flags = hashlib.blake2b("|".join(identity).encode(), digest_size=4).hexdigest()
    switches = [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]
    capability = torch.backends.cpu.get_cpu_capability()
    return " | ".join([processor(), flags, capability, f"torch {torch.__version__}", *switches])


def _facts() -> dict[str, str]:
    """Read what Linux says of the first processor."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _brand() -> str:
    if sys.platform != "darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _kept(path: Path) -> dict[str, Rates]:
    """Read the rates of a file, those that make sense."""
    try:
        content = json.loads(path.read_text("utf8"))
        entries = {key: Rates(**{name: float(rate) for name, rate in value.items()}) for key, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {key: value for key, value in entries.items() if _sensible(value)}


def _sensible(known: Rates) -> bool:
    numbers = (known.matmul, known.onednn, known.bfloat16)
    return all(math.isfinite(rate) and rate >= 0 for rate in numbers) and known.matmul > 0


def _keep(path: Path, key: str, known: Rates) -> None:
    entries = {**_kept(path), key: known}
    text = json.dumps({name: dataclasses.asdict(value) for name, value in entries.items()}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            file.write(text.encode() + b"\n")
    except OSError:
        return  # tried again the next time
