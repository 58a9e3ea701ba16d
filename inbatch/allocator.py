"""The C library's memory allocator, tuned for training on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30
# Of glibc's heap; the latter two are read at a program's start only.
_TUNABLES = {"mmap_threshold": _LARGE, "trim_threshold": _LARGE, "tcache_count": 0, "mxfast": 0}
_NVIDIA = Path("/dev/nvidiactl")


def restart_tuned() -> None:
    """Start this program again in this process, once, with a heap in which aligned blocks are found again when they are free.

    glibc cuts an aligned block, as every tensor is one, out of a larger one and keeps the cut-off ends for small objects, which
    then stand between it and its neighbours when it is freed. With many chunks of different sizes the heap grew to 2.8 GiB where
    tensors held 0.1; without the caches for small objects it stays at 0.9, at the same speed (experiments/LOG.md).

    Nothing is done where the user has tuned the allocator, where the C library is another, or beside an NVIDIA GPU, where tensors
    have an allocator of their own.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("os.execv") as restart, patch.dict(os.environ, MALLOC_ARENA_MAX="2"):
        ...     restart_tuned()
        >>> restart.called  # the user has tuned the allocator already
        False
    """
    if _tuned_by_user() or not _is_glibc() or _NVIDIA.exists() or not sys.executable:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, so that the next chunk of a step finds memory at hand.

    By default it gives blocks of some megabytes back to the system and asks for them anew, and clearing fresh pages took a sixth
    of a float32 step. Nothing is done where the user or `restart_tuned` has tuned the allocator, or the C library is another.

    Returns:
        Whether the allocator took it.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, MALLOC_ARENA_MAX="2"):  # tuned by the user
        ...     keep_freed_memory()
        False
    """
    if _tuned_by_user() or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGE) and mallopt(_TRIM_THRESHOLD, _LARGE))


def _tuned_by_user() -> bool:
    return any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # no such thing on other systems
        return False
