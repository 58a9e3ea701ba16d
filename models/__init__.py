"""Text to vectors: the `Encoder`, what it is made of, its folder on disk, and the Lightning module that trains it.

`encoder`, `inference`, `module`, and what all sub-packages read: `huggingface`, `locate`, `record`. May import `inbatch.kernels` and what
stands below, never `inbatch.data`; of the losses the contract alone (`module`, `training.data_checks`).
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.backbones.pretrained import Pretrained as Pretrained
    from inbatch.models.backbones.pretrained import TinyRandom as TinyRandom
    from inbatch.models.encoder import Encoder as Encoder
    from inbatch.models.heads.dense import Dense as Dense
    from inbatch.models.module import EmbeddingModule as EmbeddingModule
else:
    __getattr__, __all__ = exports(__name__, __file__)
