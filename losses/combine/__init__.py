"""Objectives made of objectives: weighted sums, prefixes of the embedding.

May import `inbatch.losses.base` only: what they combine is handed to them.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.losses.combine.matryoshka import Matryoshka as Matryoshka
    from inbatch.losses.combine.weighted import Decay as Decay
    from inbatch.losses.combine.weighted import WeightedSum as WeightedSum
else:
    __getattr__, __all__ = exports(__name__, __file__)
