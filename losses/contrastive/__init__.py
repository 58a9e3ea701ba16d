"""Objectives of pairs, with or without hard negatives: rows of the batch, or a queue, are what a positive is held against.

May import `inbatch.losses.base`, `candidates`, `refusals` and `side_networks`, and `inbatch.kernels`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.losses.contrastive.contrast import contrast as contrast
    from inbatch.losses.contrastive.dclr import DCLR as DCLR
    from inbatch.losses.contrastive.gaussian_decay import GaussianDecay as GaussianDecay
    from inbatch.losses.contrastive.guided import Guided as Guided
    from inbatch.losses.contrastive.hinge import EnergyHinge as EnergyHinge
    from inbatch.losses.contrastive.infonce import InfoNCE as InfoNCE
    from inbatch.losses.contrastive.lone_rows import lone_rows as lone_rows
    from inbatch.losses.contrastive.momentum_queue import MomentumQueue as MomentumQueue
    from inbatch.losses.contrastive.own_negatives import OwnNegatives as OwnNegatives
else:
    __getattr__, __all__ = exports(__name__, __file__)
