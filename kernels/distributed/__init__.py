"""Rows of all ranks, with a gradient.

Imports torch alone.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.kernels.distributed.gather import gather as gather
else:
    __getattr__, __all__ = exports(__name__, __file__)
