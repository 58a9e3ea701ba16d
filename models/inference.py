"""Embed many texts for use: sorted by length, in batches by tokens, in eval mode and without gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inbatch.activity import bars, counting, quiet
from inbatch.errors import UsageError
from inbatch.norms import unit_rows
from inbatch.text.templates import INSTRUCTION, instructed, is_template, parse, with_period
from inbatch.text.tokens import tokenize

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

# Texts tokenized at a time: bounds the memory of tokens, whatever the length of the list.
_TOKENIZED = 4096


@torch.no_grad()
def encode(
    encoder: Encoder,
    texts: Sequence[str],
    prompt_name: str | None,
    instruction: str | None,
    token_budget: int,
    max_length: int | None,
    progress: bool,
) -> Tensor:
    """Embed texts; see `Encoder.encode`.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> encode(Encoder(TinyRandom()), ["a"], None, None, 64, None, False).shape
        torch.Size([1, 32])
    """
    if isinstance(texts, str):
        raise UsageError("expected a list of texts to encode; got one string. Put it in a list.")
    names = sorted([*encoder.prompts, *encoder.ensembles])
    if prompt_name is not None and prompt_name not in names:
        raise UsageError(f"expected prompt_name to be one of {', '.join(names)}; got {prompt_name!r}")
    if token_budget < 1:
        raise UsageError(f"expected a token_budget of at least 1; got {token_budget}")
    items: list[Any] = list(texts)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise UsageError(
                f"expected texts of type str to encode; item {index} is {type(item).__name__}: {item!r:.60}"
            )
    max_length = encoder.max_length if max_length is None else encoder.fitting(max_length)
    name = encoder.default_prompt if prompt_name is None else prompt_name
    members = encoder.ensembles.get(name or "", [name])
    places = [INSTRUCTION in encoder.prompts.get(member or "", "") for member in members]
    work = [_work(item, max_length) for item in items]
    with evaluating(encoder), _bar(work * len(members), progress) as advance:
        total = torch.zeros(len(items), encoder.dim, dtype=torch.float32)  # whatever the default is
        for member, place in zip(members, places):
            asked = instruction if place or not any(places) else None  # refused where none has its place
            total += _encode(encoder, items, member, asked, token_budget, max_length, len(members) > 1, advance)
    if len(members) == 1:
        return total
    mean = total / len(members)
    return unit_rows(mean) if encoder.normalize else mean


def _encode(
    encoder: Encoder,
    items: list[str],
    prompt_name: str | None,
    instruction: str | None,
    token_budget: int,
    max_length: int,
    raw: bool,
    advance: Any,
) -> Tensor:
    """Embed texts with one prompt, (n, d) in their order; ``raw`` leaves out the normalisation, as a mean over prompts needs it."""
    tokenizer, backbone = encoder.tokenizer, encoder.backbone
    prompt = "" if prompt_name is None else encoder.prompts[prompt_name]
    if instruction is None and INSTRUCTION in prompt:
        said = encoder.instruction
        instruction = said.get(prompt_name or "") if isinstance(said, Mapping) else said
    prompt = instructed(prompt, instruction, tokenizer)
    corrected = encoder.correction is not None and encoder.correction.template_bias_at_test and is_template(prompt)
    if is_template(prompt) and backbone.max_positions is not None:
        template = parse(tokenizer, prompt)
        max_length = min(max_length, (backbone.max_positions - len(template)) // template.copies)
    spans = encoder.pooling == "mean_text"
    out = torch.empty(len(items), encoder.dim, dtype=torch.float32)
    # Characters tell the length roughly, before tokenizing.
    order = sorted(range(len(items)), key=lambda i: len(items[i]), reverse=True)
    for start in range(0, len(order), _TOKENIZED):
        rows = torch.tensor(order[start : start + _TOKENIZED])
        given = [with_period(items[i]) if encoder.period_at_test else items[i] for i in rows.tolist()]
        joined = encoder.one_string or encoder.one_string_at_test
        tokens = tokenize(tokenizer, given, max_length, prompt, joined, spans)
        for batch in token_batches(tokens.lengths, token_budget):
            part = tokens.select(batch).trim().to(encoder.device)
            z = encoder(part, encoder.bias(part, prompt_name) if corrected and prompt_name else None, normalize=not raw)
            out[rows[batch]] = z.float().cpu()
            advance(rows[batch].tolist())
    return out


def _work(text: str, max_length: int) -> int:
    """Estimate the tokens of a text before there are any: four characters each, and two around them."""
    return min(len(text) // 4 + 2, max_length)


def token_batches(lengths: Tensor, budget: int) -> Iterator[Tensor]:
    """Cut texts into batches of similar length, the longest first.

    Args:
        lengths: (n,) tokens of each text.
        budget: rows times longest row of a batch, at most; a batch holds at least one row.

    Yields:
        int64 indices of a batch's rows.

    Example:
        >>> [rows.tolist() for rows in token_batches(torch.tensor([2, 9, 3]), 9)]
        [[1], [2, 0]]
    """
    order = lengths.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode, and each of its parts back into its own mode afterwards.

    Example:
        >>> part = nn.Dropout()
        >>> with evaluating(part):
        ...     part.training
        False
        >>> part.training
        True
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _bar(work: list[int], shown: bool) -> Iterator[Any]:
    """Show how far the work is, not how many texts: long texts come first, so that a count of texts would promise a far later end."""
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    done, drawn = 0, shown and bars()
    bar = tqdm(total=sum(work), disable=not drawn, desc=f"encode {len(work):,} texts", bar_format=layout)
    with bar, quiet() if drawn else counting(lambda: f"encoded {done:,}/{len(work):,} texts"):

        def advance(rows: list[int]) -> None:
            nonlocal done
            done += len(rows)
            bar.set_description_str(f"encode {done:,}/{len(work):,} texts", refresh=False)
            bar.update(sum(work[row] for row in rows))

        yield advance
