"""How many tokens of a text a model's folder says are kept, where nobody asks for another length."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from inbatch.models.record import MODULES, RECORD, max_seq_length, read_json, sentence_settings

logger = logging.getLogger(__name__)


def own_length(folder: Path, tokenizer: Any) -> int | None:
    """Return the tokens kept of a text, special tokens included, by the folder's own word; None where it leaves that to the tokenizer.

    The first that says it: the record of our own export, sentence-transformers' settings of the network, and, where the folder is
    neither, the truncation in tokenizer.json. transformers drops the last, which the tokenizers library obeys.

    Args:
        folder: of a network.
        tokenizer: as it was loaded from there, before its first text, which replaces the truncation.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> own_length(Path("no export"), TinyRandom().tokenizer) is None
        True
    """
    if (folder / RECORD).is_file():
        return read_json(folder / RECORD).get("max_length")
    settings = sentence_settings(folder)
    if settings or (folder / MODULES).is_file():
        return max_seq_length(settings)
    truncation = getattr(getattr(tokenizer, "backend_tokenizer", None), "truncation", None)
    if truncation is None:
        return None
    if truncation["max_length"] < tokenizer.model_max_length:
        logger.info("texts are cut at %d tokens, as tokenizer.json in %s says", truncation["max_length"], folder)
    return min(truncation["max_length"], tokenizer.model_max_length)
