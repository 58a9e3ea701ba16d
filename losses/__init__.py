"""Objectives: what is computed from the embeddings of a batch, grouped by what the batch must hold.

`base` is the contract; a file holds one objective. May import `inbatch.kernels` and what stands below (`inbatch.views`, `inbatch.errors`, …),
never `inbatch.models` or `inbatch.data`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.losses.base import BatchFacts as BatchFacts
    from inbatch.losses.base import LossOutput as LossOutput
    from inbatch.losses.base import Objective as Objective
    from inbatch.losses.combine.matryoshka import Matryoshka as Matryoshka
    from inbatch.losses.combine.weighted import Decay as Decay
    from inbatch.losses.combine.weighted import WeightedSum as WeightedSum
    from inbatch.losses.contrastive.dcl import DCL as DCL
    from inbatch.losses.contrastive.dclr import DCLR as DCLR
    from inbatch.losses.contrastive.gaussian_decay import GaussianDecay as GaussianDecay
    from inbatch.losses.contrastive.guided import Guided as Guided
    from inbatch.losses.contrastive.hinge import EnergyHinge as EnergyHinge
    from inbatch.losses.contrastive.infonce import InfoNCE as InfoNCE
    from inbatch.losses.contrastive.momentum_queue import MomentumQueue as MomentumQueue
    from inbatch.losses.contrastive.own_negatives import OwnNegatives as OwnNegatives
    from inbatch.losses.contrastive.siglip import SigLIP as SigLIP
    from inbatch.losses.generative.compression import InformationCompression as InformationCompression
    from inbatch.losses.generative.distribution_alignment import DistributionAlignment as DistributionAlignment
    from inbatch.losses.generative.masked_tokens import MaskedTokens as MaskedTokens
    from inbatch.losses.generative.next_tokens import NextTokens as NextTokens
    from inbatch.losses.generative.replaced_tokens import ReplacedTokens as ReplacedTokens
    from inbatch.losses.graded.angle import Angle as Angle
    from inbatch.losses.graded.cosent import CoSENT as CoSENT
else:
    __getattr__, __all__ = exports(__name__, __file__)
