"""Masked language modelling: the corruption of tokens as BERT does it, and the auxiliary term that keeps token knowledge alive."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from inbatch.errors import UsageError
from inbatch.kernels import map_in_chunks
from inbatch.losses.base import LossOutput, Objective, mean_over_ranks
from inbatch.losses.refusals import require_same_tokens
from inbatch.views import TokenBatch, Views

IGNORED = -100


class MaskedTokens(Objective):
    """Predict masked tokens of all views with the live encoder and a head of its own: a second forward pass of the backbone.

    Args:
        head: states (b, L, h) to logits (b, L, vocabulary), such as `inbatch.models.networks.masked_lm.MaskedLMHead`.
        masking_rate: share of the text's tokens that are chosen; special tokens and padding never are.
        same_prefix_dropout: draw the dropout of a prefix once for a text, for the encoder's pass and this one, as PromCSE's release
            does; by default each pass draws its own. The network's own dropout is drawn for each pass in any case.

    Raises:
        UsageError: if the rate is no share; when it meets the encoder, if its tokenizer has no mask token, the head has another
            vocabulary, or the same dropout is asked for and there is no prefix.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1; as SimCSE's auxiliary objective, arXiv 2104.08821, section 3.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.models.networks.masked_lm import TinyHead
        >>> from inbatch.text.tokens import tokenize
        >>> encoder, head = Encoder(TinyRandom()), TinyHead()
        >>> _ = [nn.init.zeros_(weight) for weight in head.parameters()]  # it finds all 261 tokens as likely
        >>> tokens = tokenize(encoder.tokenizer, ["a cat sits on the mat"])
        >>> round(MaskedTokens(head, masking_rate=0.9)(Views(None, None), Views(tokens, tokens), encoder).loss.item(), 4)  # log 261
        5.5645
    """

    takes_prefixes = False
    passes = "the backbone, over masked texts"

    def __init__(self, head: nn.Module, masking_rate: float = 0.15, same_prefix_dropout: bool = False) -> None:
        super().__init__()
        self.head = head
        self.same_prefix_dropout = same_prefix_dropout
        self.masking_rate = checked_rate(masking_rate)

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        require_mask_token(encoder.tokenizer)
        require_same_tokens(self.head, encoder, "objective.head")
        if self.same_prefix_dropout and encoder.backbone.prefix is None:
            raise UsageError(
                "same_prefix_dropout expects an encoder with a prefix; it has none. Set objective.same_prefix_dropout to false, "
                "or backbone.prefix."
            )

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: Any) -> LossOutput:
        """Mask, encode again, and predict; the mean is over the masked tokens. See `Objective.forward`."""
        tokenizer = encoder.tokenizer
        merged = TokenBatch.cat(list(tokens), tokenizer.padding_side, tokenizer.pad_token_id)
        masked, chosen = mask_tokens(merged, tokenizer, self.masking_rate)
        labels = dataclasses.replace(merged, input_ids=merged.input_ids.masked_fill(~chosen, IGNORED))

        def predict(given: TokenBatch, wanted: TokenBatch) -> Tensor:
            states = encoder.backbone(given).last
            picked = wanted.input_ids != IGNORED
            # Only the chosen positions need the vocabulary's width.
            logits = self.head(states[picked])
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses = cross_entropy(logits, wanted.input_ids[picked], reduction="none")
            return losses.new_zeros(picked.shape).masked_scatter(picked, losses).sum(1)

        losses = map_in_chunks(predict, masked, labels, budget=self.chunk_tokens)
        return LossOutput(mean_over_ranks(losses.sum(), chosen.sum()))


def mask_tokens(tokens: TokenBatch, tokenizer: Any, rate: float) -> tuple[TokenBatch, Tensor]:
    """Choose tokens and corrupt them: 80 % become the mask token, 10 % any token, 10 % stay.

    Args:
        tokens: (b, L).
        tokenizer: of the tokens; its special tokens are never chosen.
        rate: probability of each token to be chosen; drawn with torch's generator of the tokens' device.

    Returns:
        The corrupted batch, and which tokens were chosen, (b, L) bool.

    Example:
        >>> from inbatch.models import TinyRandom
        >>> from inbatch.text.tokens import tokenize
        >>> tokenizer = TinyRandom().tokenizer
        >>> masked, chosen = mask_tokens(tokenize(tokenizer, ["cat"]), tokenizer, rate=1.0)
        >>> chosen  # all but the special tokens around the text
        tensor([[False,  True,  True,  True, False]])
    """
    ids = tokens.input_ids
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    allowed = tokens.attention_mask.bool() & ~special
    chosen = (torch.rand(ids.shape, device=ids.device) < rate) & allowed
    fate = torch.rand(ids.shape, device=ids.device)
    other = torch.randint(len(tokenizer), ids.shape, device=ids.device)
    corrupted = torch.where(chosen & (fate < 0.8), tokenizer.mask_token_id, ids)
    corrupted = torch.where(chosen & (fate >= 0.9), other, corrupted)
    return dataclasses.replace(tokens, input_ids=corrupted), chosen


def checked_rate(rate: float) -> float:
    """Return a masking rate.

    Raises:
        UsageError: if it is not in (0, 1).

    Example:
        >>> checked_rate(15)
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected masking_rate in (0, 1); got 15. Set objective.masking_rate, e.g. 0.15.
    """
    if not 0 < rate < 1:
        raise UsageError(f"expected masking_rate in (0, 1); got {rate}. Set objective.masking_rate, e.g. 0.15.")
    return rate


def require_mask_token(tokenizer: Any) -> None:
    """Refuse a tokenizer without a mask token.

    Raises:
        UsageError: if it has none.

    Example:
        >>> from inbatch.models import TinyRandom
        >>> require_mask_token(TinyRandom("llama").tokenizer)
        Traceback (most recent call last):
        inbatch.errors.UsageError: masking tokens expects a tokenizer with a mask token; the encoder's has none. Choose a masked language
        model as the backbone, or drop the term.
    """
    if tokenizer.mask_token_id is None:
        raise UsageError(
            "masking tokens expects a tokenizer with a mask token; the encoder's has none. Choose a masked language model as the "
            "backbone, or drop the term."
        )
