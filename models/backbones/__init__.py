"""Networks from tokens to hidden states: pretrained by name, or tiny and random; attention, positions, end-of-text tokens.

May import `inbatch.models.adapters` and `heads`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone as Backbone
    from inbatch.models.backbones.pretrained import Pretrained as Pretrained
    from inbatch.models.backbones.pretrained import TinyRandom as TinyRandom
else:
    __getattr__, __all__ = exports(__name__, __file__)
