"""The operators and what surrounds them: exact InfoNCE, sums over pairs, gradient caching, gathering across ranks.

Imports torch and triton alone, and nothing else of inbatch but `inbatch.lazy`. Names are resolved on first use, so that nothing heavy is imported
here: transformers probes for a package called ``kernels`` and imports this folder in passing when the repository's root is on ``sys.path``.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.kernels.caching import map_in_chunks as map_in_chunks
    from inbatch.kernels.distributed.gather import gather as gather
    from inbatch.kernels.infonce.operators import hardest as hardest
    from inbatch.kernels.infonce.operators import info_nce as info_nce
    from inbatch.kernels.infonce.operators import log_sum as log_sum
    from inbatch.kernels.infonce.operators import pair_logits as pair_logits
    from inbatch.kernels.pairwise.chunked import sum_over_pairs as sum_over_pairs
else:
    __getattr__, __all__ = exports(__name__, __file__)
