"""Turn views of texts into views of tokens: the prompt and the length that each role has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from inbatch.errors import UsageError
from inbatch.text.filling import cut
from inbatch.text.ids import text_id
from inbatch.text.templates import INSTRUCTION, instructed
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

_SIDES: tuple[str, ...] = ("query", "document")


@dataclass(frozen=True)
class Collate:
    """Tokenizes `Views` of texts. The anchor is a query; the positive, the negatives and other texts are documents.

    Attributes:
        tokenizer: the encoder's.
        prompts: text in front of every query and every document.
        max_length: tokens kept of each, special tokens included.
        document_token_type: of the documents' tokens, where the tokenizer gives types.
        one_string: as in `inbatch.text.filling.fill`.
        spans: as in `tokenize`.
        cut_first: cut a text to max_length by itself and decode it, before its prompt is put around it; see `inbatch.text.filling.cut`.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> collate = Collate(TinyRandom().tokenizer, {"query": "q: "}, {"query": 16, "document": 8})
        >>> tokens = collate(Views(["red shoes"], ["shoes of red leather"]))
        >>> tokens.anchor.lengths, tokens.positive.lengths  # a token a byte, and two special ones: 3 + 9 + 2, and cut to 8
        (tensor([14]), tensor([8]))
    """

    tokenizer: Any
    prompts: Mapping[str, str]
    max_length: Mapping[str, int]
    document_token_type: int = 0
    one_string: bool = False
    spans: bool = False
    cut_first: bool = False

    def __call__(self, views: Views[list[str]]) -> Views[TokenBatch]:
        """Tokenize each view; the same list of texts in two roles with the same settings is tokenized once."""
        done: dict[tuple[int, int, str, int], TokenBatch] = {}
        tokens = []
        for role, texts in enumerate(views):
            side = _SIDES[min(role, 1)]
            key = (
                id(texts),
                self.max_length[side],
                self.prompts.get(side, ""),
                self.document_token_type if role else 0,
            )
            if key not in done:
                done[key] = self.side(side, texts, views.instructions)
            tokens.append(done[key])
        asked = None if views.instructions is None else torch.tensor([text_id(text) for text in views.instructions])
        # A trainer's precision of whole models casts the tensors of a batch, and scores would be rounded; `Views.to` makes one of it.
        score = None if views.score is None else views.score.numpy()
        return replace(views.replace_payloads(tokens), score=score, instructions=asked)

    def side(self, side: str, texts: list[str], instructions: list[str] | None = None) -> TokenBatch:
        """Tokenize texts of one side, ``query`` or ``document``, as a batch of training would."""
        prompt: str | list[str] = self.prompts.get(side, "")
        if INSTRUCTION in prompt:
            prompt = [instructed(str(prompt), row, self.tokenizer) for row in instructions or [None] * len(texts)]
        length: int | None = self.max_length[side]
        if self.cut_first:
            texts, length = cut(self.tokenizer, texts, self.max_length[side]), None
        batch = tokenize(self.tokenizer, texts, length, prompt, self.one_string, self.spans)
        return _typed(batch, self.document_token_type) if side == "document" and self.document_token_type else batch


def _typed(batch: TokenBatch, token_type: int) -> TokenBatch:
    if batch.token_type_ids is None:
        return batch
    return replace(batch, token_type_ids=torch.full_like(batch.token_type_ids, token_type) * batch.attention_mask)


def lengths_by_side(max_length: int | Mapping[str, int]) -> dict[str, int]:
    """Return ``{"query": …, "document": …}`` from one number for both or a mapping of that form.

    Raises:
        UsageError: if a length is missing, has another name, or is less than 2.

    Example:
        >>> lengths_by_side(64)
        {'query': 64, 'document': 64}
    """
    lengths: dict[str, int] = dict.fromkeys(_SIDES, max_length) if isinstance(max_length, int) else dict(max_length)
    if set(lengths) != set(_SIDES) or any(not isinstance(n, int) or n < 2 for n in lengths.values()):
        raise UsageError(
            f"expected max_length to be at least 2 tokens, one number or {{query: …, document: …}}; got {max_length}. "
            "Set data.max_length."
        )
    return lengths
