"""Which rows make a batch, and its tokens: the sampler, mixtures of sources, collation.

May import `inbatch.data.views` and what stands below it.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.data.batches.collate import Collate as Collate
    from inbatch.data.batches.sampler import BatchOrder as BatchOrder
    from inbatch.data.batches.sampler import Draw as Draw
    from inbatch.data.batches.sampler import StepSampler as StepSampler
else:
    __getattr__, __all__ = exports(__name__, __file__)
