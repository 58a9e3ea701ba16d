"""The operator and what surrounds it: exact InfoNCE, gradient caching, gathering across ranks.

Names are resolved on first use: nothing heavy is imported here, because transformers may import this folder in passing when the
repository's root is on ``sys.path`` (it probes for a package called ``kernels``).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inbatch.kernels.caching import map_in_chunks
    from inbatch.kernels.operators import hardest, info_nce, log_sum, pair_logits
    from inbatch.kernels.ranks import gather

__all__ = ["gather", "hardest", "info_nce", "log_sum", "map_in_chunks", "pair_logits"]

_HOME: dict[str, str] = dict.fromkeys(("hardest", "info_nce", "log_sum", "pair_logits"), "operators")
_HOME |= {"map_in_chunks": "caching", "gather": "ranks"}


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f"inbatch.kernels.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
