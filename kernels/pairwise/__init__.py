"""Sums over all pairs of rows and keys of any function of their dot product, for losses that are no softmax.

`reference` is the definition; `chunked` computes it in blocks. May import `inbatch.kernels.infonce`, whose rules for pairs it shares.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.kernels.pairwise.chunked import sum_over_pairs as sum_over_pairs
else:
    __getattr__, __all__ = exports(__name__, __file__)
