"""What a run refuses of its data before the first step, because objective or encoder cannot use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts, Objective, check_all
from inbatch.text.templates import INSTRUCTION, filled_length, instructed, is_template
from inbatch.text.tokens import check_prefix

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder


def check_data(encoder: Encoder, objective: Objective, data: Any, ranks: int, precision: str) -> None:
    r"""Refuse data that objective or encoder cannot use.

    Args:
        encoder: of the run.
        objective: of the run.
        data: the data module.
        ranks: of the run.
        precision: the trainer's.

    Raises:
        UsageError: if roles or rows do not suit the objective, an instruction has no place or is missing, or a text may be longer than
            the encoder takes.

    Example:
        >>> from inbatch.data import EmbeddingDataModule
        >>> from inbatch.losses import InfoNCE
        >>> from inbatch.models import Encoder, TinyRandom
        >>> with open("pairs.csv", "w") as file:
        ...     print("question,answer", "Do you ship?,By mail.", "When?,Today.", sep="\n", file=file)
        >>> data = EmbeddingDataModule("pairs.csv", batch_size=2, max_length=600)
        >>> check_data(Encoder(TinyRandom(max_length=512)), InfoNCE(), data, ranks=1, precision="32-true")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected max_length in [3, 512], from the special tokens and the backbone's positions; got 600. Set
        data.max_length.
    """
    check_all(objective, facts_of_batches(data, ranks, precision))
    prompts = [encoder.prompts[side] for side in data.max_length]
    placed = any(INSTRUCTION in prompt for prompt in prompts)
    if data.instructed and not placed:
        raise UsageError(
            f"expected a prompt with {INSTRUCTION}, as the rows have instructions; got none. Set encoder.prompts, or leave the instructions "
            f"out: {data.without_instructions}."
        )
    if placed and not data.instructed:
        raise UsageError(
            f"expected rows with instructions, as a prompt has a place for them; got none. Set instruction or columns.instruction on "
            f"data.sources, or encoder.prompts without {INSTRUCTION}."
        )
    tokenizer = encoder.tokenizer
    for side, length in data.max_length.items():
        prompt = longest_prompt(encoder, data, side)
        if not is_template(prompt):
            check_prefix(tokenizer, prompt, length)
        filled = filled_length(tokenizer, prompt, length)
        try:
            encoder.fitting(filled)
        except UsageError as error:
            counted = f" ({filled - length} of them are the template's)" if filled > length else ""
            raise UsageError(f"{error}{counted}. Set data.max_length.") from None


def longest_prompt(encoder: Encoder, data: Any, side: str) -> str:
    """Return the prompt of a side, ``query`` or ``document``, with the data's longest instruction where it has a place for one.

    Example:
        >>> from types import SimpleNamespace
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> encoder = Encoder(TinyRandom(), prompts={"query": "{instruction}: "})
        >>> data = SimpleNamespace(longest_instructions=lambda: ["find", "find all"])
        >>> longest_prompt(encoder, data, "query")
        'find all: '
    """
    prompt, tokenizer = encoder.prompts[side], encoder.tokenizer
    if INSTRUCTION not in prompt:
        return prompt
    filled = [instructed(prompt, text, tokenizer) for text in data.longest_instructions()]
    return max(filled, key=lambda text: len(tokenizer(text)["input_ids"]))


def facts_of_batches(data: Any, ranks: int, precision: str) -> BatchFacts:
    """Say what the batches of a data module are like.

    Example:
        >>> from types import SimpleNamespace
        >>> facts = {"roles": (1, False), "most_scores": 0, "others": (), "max_length": {}, "pair_ids": None, "ids": "text", "edits": []}
        >>> data = SimpleNamespace(batch_size=8, **facts)
        >>> facts_of_batches(data, ranks=2, precision="32-true").rows
        4
    """
    negatives, scored = data.roles
    return BatchFacts(
        data.batch_size // ranks,
        negatives,
        scored,
        pairs=data.pair_ids,
        by_text=data.ids == "text",
        altered=bool(data.edits),
        lengths=data.max_length,
        precision=precision,
        most_scores=data.most_scores,
        others=data.others,
    )
