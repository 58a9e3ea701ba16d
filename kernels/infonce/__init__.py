"""The operator of exact InfoNCE: definition, reference, and the fast paths that are held to it.

May import `inbatch.kernels.trial`; `triton` is imported when it is chosen.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.kernels.infonce.operators import hardest as hardest
    from inbatch.kernels.infonce.operators import info_nce as info_nce
    from inbatch.kernels.infonce.operators import log_sum as log_sum
    from inbatch.kernels.infonce.operators import pair_logits as pair_logits
else:
    __getattr__, __all__ = exports(__name__, __file__)
