"""Networks beside the encoder's, which objectives run: decoders, masked language models, discriminators, reference encoders.

May import `inbatch.models.backbones` and `export`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.networks.decoder import Decoder as Decoder
    from inbatch.models.networks.decoder import PretrainedDecoder as PretrainedDecoder
    from inbatch.models.networks.decoder import TinyDecoder as TinyDecoder
    from inbatch.models.networks.discriminator import Discriminator as Discriminator
    from inbatch.models.networks.masked_lm import EncoderGenerator as EncoderGenerator
    from inbatch.models.networks.masked_lm import Generator as Generator
    from inbatch.models.networks.masked_lm import MaskedLMHead as MaskedLMHead
    from inbatch.models.networks.masked_lm import PretrainedGenerator as PretrainedGenerator
    from inbatch.models.networks.masked_lm import PretrainedHead as PretrainedHead
    from inbatch.models.networks.masked_lm import TinyGenerator as TinyGenerator
    from inbatch.models.networks.masked_lm import TinyHead as TinyHead
    from inbatch.models.networks.reference import Reference as Reference
else:
    __getattr__, __all__ = exports(__name__, __file__)
