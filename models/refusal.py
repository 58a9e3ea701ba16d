"""What a folder names as its only module where sentence-transformers would load it without a word and embed otherwise."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from inbatch.errors import UsageError


class LoadWithInbatch(nn.Module):
    """Stands in ``modules.json`` of exports that sentence-transformers cannot express.

    Without the file it would put mean pooling on the network, and no prompts.

    Example:
        >>> LoadWithInbatch.load("mine")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a model that sentence-transformers can express; mine is none: it would get mean pooling and no prompts. Load it with inbatch.models.encoder.Encoder.from_pretrained.
    """

    @classmethod
    def load(cls, folder: Any, *_: Any, **__: Any) -> NoReturn:
        """Refuse to be a part of a SentenceTransformer.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"expected a model that sentence-transformers can express; {folder} is none: it would get mean pooling and no prompts. Load it "
            "with inbatch.models.encoder.Encoder.from_pretrained."
        )
