"""Which backend does a call's (b, n) work, and what happens where it cannot: no Triton, a wrong number, memory that runs out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from inbatch.kernels.infonce.backend import Backend
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.chunked import CHUNKED

logger = logging.getLogger(__name__)
BACKENDS = ("auto", "triton", "chunked", "reference")
# Largest error, relative to the largest value, with which Triton passes its trial on a device.
TRIAL_BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 3e-2}
# What trials and calls have shown: whether "auto" takes Triton on the GPU of this number, for this dtype.
verdicts: dict[tuple[int, torch.dtype], bool] = {}
Result = TypeVar("Result")


def check_backend(backend: str, query: Tensor) -> None:
    """Refuse an unknown backend, and dtypes and devices that Triton does not take.

    Raises:
        ValueError: naming what to set instead.
    """
    if backend not in BACKENDS:
        raise ValueError(f'expected backend "auto", "triton", "chunked" or "reference"; got {backend!r}')
    if backend == "triton" and query.dtype not in TRIAL_BOUNDS:
        raise ValueError(
            f'expected float32, bfloat16 or float16 for backend "triton"; got {query.dtype}. Use backend="chunked".'
        )
    if backend == "triton" and query.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f'expected tensors on a GPU for backend "triton"; got {query.device}. Use backend="auto", or set '
            "TRITON_INTERPRET=1 before the start to run Triton's interpreter."
        )


def attempt(
    work: Callable[[Backend[Any], int | None], Result], name: str, query: Tensor, workspace: int | None
) -> Result:
    """Do a call's work on its backend; once more with a quarter of the workspace if memory runs out.

    Where "auto" took Triton and it fails otherwise, plain torch does the work, from then on, with one warning.

    Args:
        work: given a backend and the workspace in bytes, or None for the backend's default, does everything anew.
        name: "auto", "triton" or "chunked".
        query: the call's queries, for device and dtype.
        workspace: as the caller said.

    Returns:
        What ``work`` returns.

    Raises:
        torch.OutOfMemoryError: if memory runs out twice; names the setting.
    """
    with on(query.device):
        backend = backend_of(name, query)
        try:
            return work(backend, workspace)
        except Exception as error:
            shown = f"{type(error).__name__}: {error}".splitlines()[0]
            if not is_out_of_memory(error) and (name != "auto" or backend is CHUNKED or isinstance(error, ValueError)):
                raise
            exhausted = is_out_of_memory(error)
        # Outside of the handler, so that the failed call's tensors are gone.
        if not exhausted:
            _leave(query.device, query.dtype, shown)
            return work(CHUNKED, workspace)
        if query.is_cuda:
            torch.cuda.empty_cache()
        given = backend.default_workspace if workspace is None else workspace
        try:
            return work(backend, given // 4)
        except Exception as error:
            # A quarter may be less than one row takes, which is a ValueError.
            if not is_out_of_memory(error) and not isinstance(error, ValueError):
                raise
        raise torch.OutOfMemoryError(
            f"expected {given} bytes of workspace beside the gradients of {len(query)} rows, then {given // 4}; "
            f"{query.device} has neither. Set a smaller workspace_bytes or take fewer rows in a call. First: {shown}"
        )


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a GPU the current one: Triton launches there, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an allocation failed, on whatever device.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
        (True, False)
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def backend_of(name: str, query: Tensor) -> Backend[Any]:
    """Return what does the work: for "auto", Triton on a GPU where it passes its trial, else plain torch.

    Example:
        >>> backend_of("auto", torch.zeros(1)).name
        'chunked'
    """
    if name == "triton" or (name == "auto" and query.dtype in TRIAL_BOUNDS and passes(query.device, query.dtype)):
        from inbatch.kernels.infonce.triton.passes import TILED

        return TILED
    return CHUNKED


def chosen_backend(device: torch.device | str) -> tuple[str, str]:
    """Say which backend "auto" takes on a device for float32, and why, for the first screen of a run.

    Example:
        >>> chosen_backend("cpu")
        ('chunked', 'plain torch in blocks, 256 MiB workspace, on cpu')
    """
    device = torch.device(device)
    if passes(device, torch.float32):
        return "triton", f"fused tiles, checked against float64 on {device}"
    size = f"{CHUNKED.default_workspace >> 20} MiB workspace"
    return "chunked", f"plain torch in blocks, {size}, on {device.type}"


def passes(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether Triton's trial passes; it runs once for each GPU and dtype, and a failure is said once."""
    if device.type != "cuda":
        return False
    index = torch.cuda.current_device() if device.index is None else device.index
    if (index, dtype) not in verdicts:
        device = torch.device("cuda", index)
        try:
            error = trial(device, dtype)
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
            if is_out_of_memory(failure):
                return False  # says nothing of Triton: the next call tries again
        else:
            reason = f"its gradients have a relative error of {error:.1e} in a trial"
            if error <= TRIAL_BOUNDS[dtype]:
                logger.info(
                    "info_nce runs on Triton for %s on %s (relative error %.1e in a trial)", dtype, device, error
                )
                verdicts[index, dtype] = True
                return True
        _leave(device, dtype, reason)
    return verdicts[index, dtype]


def trial(device: torch.device, dtype: torch.dtype) -> float:
    """Compare Triton with float64 on a case that is no multiple of a tile: the plain form, one direction.

    Returns:
        The largest error of log sums and gradients, relative to each one's largest value.
    """
    from inbatch.kernels.infonce.triton.passes import TILED

    rng = torch.Generator().manual_seed(0)
    drawn = (torch.randn(rows, 72, generator=rng, device="cpu") for rows in (200, 333))
    q, k = (torch.nn.functional.normalize(x, dim=1).to(device, dtype) for x in drawn)
    held: list[tuple[Backend[Any], torch.dtype]] = [(TILED, dtype), (CHUNKED, torch.float64)]
    results = []
    with on(device):
        for backend, to in held:
            problem = backend.problem(q.to(to), k.to(to), 20.0, Rules.of(0, None, None, None, None), None)
            results.append(backend.fused(problem, lambda _, row: torch.ones_like(row), True, True))
    return max(float(((x.double() - y).abs().max() / y.abs().max()).nan_to_num(torch.inf)) for x, y in zip(*results))


def _leave(device: torch.device, dtype: torch.dtype, reason: str) -> None:
    verdicts[device.index or 0, dtype] = False
    warnings.warn(
        f'info_nce: Triton cannot be used for {dtype} on {device}, so the backend "chunked" is: {reason}', stacklevel=2
    )
