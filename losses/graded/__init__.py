"""Objectives of scored pairs, which order them as their scores do.

May import `inbatch.losses.base`, `inbatch.losses.contrastive` and `inbatch.kernels`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.losses.graded.angle import Angle as Angle
    from inbatch.losses.graded.cosent import CoSENT as CoSENT
else:
    __getattr__, __all__ = exports(__name__, __file__)
