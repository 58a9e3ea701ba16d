"""What is trained on a frozen network, and how it is packed: LoRA, prefixes, learned tokens, quantization.

May import the top modules of `inbatch.models`.
"""

from typing import TYPE_CHECKING

from inbatch.lazy import exports

if TYPE_CHECKING:
    from inbatch.models.adapters.learned_tokens import LearnedTokens as LearnedTokens
    from inbatch.models.adapters.lora import Lora as Lora
    from inbatch.models.adapters.prefix import Prefix as Prefix
else:
    __getattr__, __all__ = exports(__name__, __file__)
