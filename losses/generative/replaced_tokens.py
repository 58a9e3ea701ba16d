"""DiffCSE's second term: which tokens of an edited sentence were replaced, told with the help of the sentence's embedding."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from inbatch.kernels import map_in_chunks
from inbatch.losses.base import LossOutput, Objective, mean_over_ranks
from inbatch.losses.generative.masked_tokens import checked_rate, mask_tokens, require_mask_token
from inbatch.losses.refusals import require_same_tokens
from inbatch.views import TokenBatch, Views


class ReplacedTokens(Objective):
    """Detect replaced tokens, conditioned on the embedding; the gradient reaches the encoder through the embedding alone.

    Each view is masked by itself, filled in by a frozen generator, and read by a discriminator whose first input vector is the
    view's embedding (as the terms before it have projected it).

    Args:
        generator: a frozen masked language model, `inbatch.models.networks.masked_lm.Generator`: tokens to tokens.
        discriminator: `inbatch.models.networks.discriminator.Discriminator`, trained: tokens and vectors to (b, L, 2).
        masking_rate: share of tokens that the generator must fill in.
        rtd_count_padding: the mean is over all positions, padding included with the label "original", as released: the weight of
            the term then depends on how ragged a batch is. False leaves padding out.

    Raises:
        UsageError: if the rate is no share; when it meets the encoder, if a side network reads other tokens.

    Source: Chuang et al. 2022, arXiv 2204.10298, eq. 3; released code for what the paper leaves open.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.models.networks import Discriminator, TinyGenerator
        >>> from inbatch.text.tokens import tokenize
        >>> encoder, discriminator = Encoder(TinyRandom()), Discriminator(TinyRandom())
        >>> _ = [nn.init.zeros_(weight) for weight in discriminator.head.parameters()]  # it finds both answers as likely
        >>> tokens = tokenize(encoder.tokenizer, ["a cat", "some dogs"])
        >>> z = encoder(tokens)
        >>> round(ReplacedTokens(TinyGenerator(), discriminator)(Views(z, z), Views(tokens, tokens), encoder).loss.item(), 4)  # log 2
        0.6931
    """

    takes_prefixes = False
    passes = "generator and discriminator"

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        masking_rate: float = 0.3,
        rtd_count_padding: bool = True,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.masking_rate = checked_rate(masking_rate)
        self.rtd_count_padding = rtd_count_padding

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        require_mask_token(encoder.tokenizer)
        require_same_tokens(self.generator, encoder, "objective.generator")
        require_same_tokens(self.discriminator, encoder, "objective.discriminator")

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: Any) -> LossOutput:
        """Edit all views, and detect the edits; see `Objective.forward`."""
        tokenizer = encoder.tokenizer
        merged = TokenBatch.cat(list(tokens), tokenizer.padding_side, tokenizer.pad_token_id)
        masked, _ = mask_tokens(merged, tokenizer, self.masking_rate)
        with torch.no_grad():
            predicted = self._fill_in(masked, tokenizer.padding_side == "left")
        edited, replaced = edit(merged, predicted, tokenizer.cls_token_id)

        def detect(given: TokenBatch, labels: TokenBatch, vectors: Tensor) -> Tensor:
            counted = None if self.rtd_count_padding else given.attention_mask
            return detection_losses(self.discriminator(given, vectors), labels.input_ids, counted)

        labels = dataclasses.replace(edited, input_ids=replaced)
        batches: Any = (edited, labels)
        if self.rtd_count_padding:  # what stands on padding counts, so no chunk may lose it
            batches = tuple(Untrimmed(batch) for batch in batches)
        losses = map_in_chunks(_unwrapped(detect), *batches, torch.cat(list(z)), budget=self.chunk_tokens)
        count = replaced.new_tensor(replaced.numel()) if self.rtd_count_padding else edited.attention_mask.sum()
        text = merged.attention_mask.sum()
        return LossOutput(mean_over_ranks(losses.sum(), count), {"replaced": replaced.sum() / text})

    def _fill_in(self, masked: TokenBatch, left: bool) -> Tensor:
        """Let the generator predict every token, in chunks; (n, L)."""
        length = masked.input_ids.shape[1]

        def fill(given: TokenBatch) -> Tensor:
            found = self.generator(given)
            missing = length - found.shape[1]
            return pad(found, (missing, 0) if left else (0, missing))

        return map_in_chunks(fill, masked, budget=self.chunk_tokens)


def edit(tokens: TokenBatch, predicted: Tensor, first_token_id: int | None) -> tuple[TokenBatch, Tensor]:
    """Put a generator's predictions into the place of a text's tokens.

    Args:
        tokens: the original texts, (b, L).
        predicted: (b, L) token ids, of which those on padding are dropped.
        first_token_id: what a text's first token is forced to be; None leaves the prediction.

    Returns:
        The edited texts, whose padding is token 0, and the labels (b, L): 1 where a token differs from the original.

    Example:
        >>> tokens = TokenBatch(torch.tensor([[2, 7, 8, 0]]), torch.tensor([[1, 1, 1, 0]]))
        >>> edited, replaced = edit(tokens, torch.tensor([[5, 7, 9, 9]]), first_token_id=2)
        >>> edited.input_ids, replaced
        (tensor([[2, 7, 9, 0]]), tensor([[0, 0, 1, 0]]))
    """
    mask = tokens.attention_mask
    if first_token_id is not None:
        first = torch.arange(mask.shape[1], device=mask.device) == mask.int().argmax(1)[:, None]
        predicted = torch.where(first, first_token_id, predicted)
    replaced = (predicted != tokens.input_ids).long() * mask
    return dataclasses.replace(tokens, input_ids=predicted * mask), replaced


def detection_losses(logits: Tensor, replaced: Tensor, counted: Tensor | None = None) -> Tensor:
    """Compute each text's summed cross entropy; ``(cross_entropy(logits, replaced) * counted).sum(1)``.

    Args:
        logits: (b, L, 2); class 1 is "replaced".
        replaced: (b, L) labels.
        counted: (b, L), 1 on positions that count; None counts all, padding included.

    Returns:
        (b,).

    Example:
        >>> logits, replaced = torch.zeros(1, 3, 2), torch.tensor([[0, 1, 0]])  # both answers are as likely
        >>> detection_losses(logits, replaced), detection_losses(logits, replaced, torch.tensor([[1, 1, 0]]))  # three and two of log 2
        (tensor([2.0794]), tensor([1.3863]))
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = cross_entropy(logits.transpose(1, 2), replaced, reduction="none")
    return (losses if counted is None else losses * counted).sum(1)


@dataclass(frozen=True)
class Untrimmed:
    """Tokens whose padding stays, as every position of it is computed and counted.

    Example:
        >>> batch = TokenBatch(torch.tensor([[7, 8, 0], [7, 0, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]))
        >>> batch.lengths, Untrimmed(batch).lengths
        (tensor([2, 1]), tensor([3, 3]))
        >>> batch.trim().input_ids.shape, Untrimmed(batch).trim().batch.input_ids.shape
        (torch.Size([2, 2]), torch.Size([2, 3]))
    """

    batch: TokenBatch

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def lengths(self) -> Tensor:
        """(b,): the padded length of every row."""
        return torch.full_like(self.batch.lengths, self.batch.input_ids.shape[1])

    def select(self, rows: Tensor) -> Untrimmed:
        """Take rows."""
        return Untrimmed(self.batch.select(rows))

    def trim(self) -> Untrimmed:
        """Keep all columns."""
        return self


def _unwrapped(function: Any) -> Any:
    """Let a function of `TokenBatch` take `Untrimmed` ones."""

    def call(*batches: Any) -> Any:
        return function(*(batch.batch if isinstance(batch, Untrimmed) else batch for batch in batches))

    return call
