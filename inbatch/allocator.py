"""The C library's memory allocator, tuned for training on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, so that the next chunk of a step finds memory at hand.

    By default it gives blocks of some megabytes back to the system and asks for them anew, and clearing fresh pages took a sixth
    of a float32 step. Nothing is done where the user has tuned the allocator, or the C library is another.

    Returns:
        Whether the allocator took it.
    """
    tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if tuned or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGE) and mallopt(_TRIM_THRESHOLD, _LARGE))
