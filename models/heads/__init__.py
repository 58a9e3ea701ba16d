"""From hidden states to the vector: pooling, latent attention, heads, projection heads of training, the template's bias.

May import the top modules of `inbatch.models`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.heads.dense import Dense as Dense
    from inbatch.models.heads.dense import MLMTransform as MLMTransform
    from inbatch.models.heads.latent_attention import LatentAttention as LatentAttention
    from inbatch.models.heads.projectors import BatchNormProjector as BatchNormProjector
    from inbatch.models.heads.template_bias import TemplateBias as TemplateBias
else:
    __getattr__, __all__ = exports(__name__, __file__)
