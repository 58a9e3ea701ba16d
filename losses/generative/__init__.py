"""Objectives of the texts' tokens: masked, replaced and next tokens, and a decoder's likelihoods.

May import `inbatch.losses.base` and `inbatch.kernels`; the networks that they run are handed to them.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.losses.generative.compression import InformationCompression as InformationCompression
    from inbatch.losses.generative.distribution_alignment import DistributionAlignment as DistributionAlignment
    from inbatch.losses.generative.masked_tokens import MaskedTokens as MaskedTokens
    from inbatch.losses.generative.next_tokens import NextTokens as NextTokens
    from inbatch.losses.generative.reference_scores import ReferenceScores as ReferenceScores
    from inbatch.losses.generative.replaced_tokens import ReplacedTokens as ReplacedTokens
else:
    __getattr__, __all__ = exports(__name__, __file__)
