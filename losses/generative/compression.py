"""AutoRegEmbed's first stage: a frozen decoder must rebuild a text from the states at the learned tokens alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from inbatch.errors import UsageError
from inbatch.kernels import map_in_chunks
from inbatch.losses.base import BatchFacts, LossOutput, Objective, mean_over_ranks
from inbatch.losses.refusals import require_same_tokens
from inbatch.views import TokenBatch, Views

IGNORED = -100


class InformationCompression(Objective):
    """Predict the positive's tokens, and the end of the text, from the anchor's states at the learned tokens.

    ``-mean log p(d_t | e_1 … e_k, d_<t)`` over all target tokens of the global batch: one mean, so that a longer text weighs more.
    The encoder embeds the anchors only. The decoder sees neither the anchor's text nor its instruction; its weights are frozen, and
    the gradient passes through it to the states.

    Args:
        decoder: `inbatch.models.networks.decoder.Decoder`: the untouched base of the encoder.
        mean_by_rank: take the mean over each rank's tokens, then the mean over ranks, as the release does: a token then weighs more
            on a rank that has fewer. On one rank nothing changes.

    Raises:
        UsageError: when it meets the encoder, if that has no learned tokens, or the decoder reads other tokens or sizes; before the first
            step, if a text may be longer than the decoder takes.

    Source: Deng et al. 2025, arXiv 2502.11401, section 3.2; released code for the mean over tokens, there of each rank.

    Example:
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> from inbatch.text.tokens import tokenize
        >>> from inbatch.losses.base import Encoded
        >>> decoder, z = TinyDecoder(), torch.zeros(1, 32)
        >>> _ = nn.init.zeros_(decoder.network.lm_head.weight)  # it finds all 260 tokens as likely
        >>> tokens = tokenize(decoder.tokenizer, ["a cat"], prompt="{text}")
        >>> objective = InformationCompression(decoder)
        >>> encoded = Encoded(z, {"states_at_learned": torch.zeros(1, 2, 32)}, tokens.lengths)
        >>> objective.encodings = Views(encoded, None)  # the module hands it what it reads
        >>> round(objective(Views(z, None), Views(tokens, tokens), None).loss.item(), 4)  # log 260
        5.5607
    """

    takes_prefixes = False
    takes_projected = False
    encoded = 1
    passes = "the decoder, over the positives"
    reads = frozenset({"states_at_learned"})

    def __init__(self, decoder: nn.Module, mean_by_rank: bool = False) -> None:
        super().__init__()
        self.decoder = decoder
        self.mean_by_rank = mean_by_rank
        self.learned = 0

    def attach(self, encoder: object) -> None:
        """See `Objective.attach`."""
        self.learned = require_decoder(self.decoder, encoder, "objective.decoder")

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        super().check(batch)
        require_room(self.decoder, self.learned, batch)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Decode the positives in chunks; see `Objective.forward`."""
        targets = targets_of(tokens.positive, self.decoder)
        assert self.encodings is not None
        states = self.encodings.anchor.reads["states_at_learned"]
        likelihood = likelihoods(self.decoder, states, targets, self.chunk_tokens)
        total, count = -likelihood.sum(), targets.attention_mask.sum()
        return LossOutput(total / count if self.mean_by_rank else mean_over_ranks(total, count))


def sequence_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum the log-probabilities of the labels; ``Σ_t log_softmax(logits[:, t - 1])[labels[:, t]]`` over labels that are not -100.

    A sum, not a mean: it is not normalised by length.

    Args:
        logits: (b, L, V), any float dtype; the sums are made in float32 (float64 for float64).
        labels: (b, L) int64; the first is never predicted.

    Returns:
        (b,).

    Example:
        >>> logits = torch.zeros(2, 3, 4)  # all 4 tokens of a vocabulary are as likely
        >>> sequence_log_likelihood(logits, torch.tensor([[0, 1, 2], [0, 1, -100]]))  # two and one of log(1/4)
        tensor([-2.7726, -1.3863])
    """
    logits = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    return -cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none").sum(1)


def likelihoods(decoder: nn.Module, states: Tensor, targets: TokenBatch, budget: int | None) -> Tensor:
    """Compute each row's ``log p(target | states)`` in chunks, (b,).

    Args:
        decoder: `inbatch.models.networks.decoder.Decoder`.
        states: (b, k, h), with gradient.
        targets: b texts with their end, of `targets_of`.
        budget: padded tokens a chunk may hold.

    Example:
        >>> def decoder(states, targets):  # finds all 4 tokens of a vocabulary as likely
        ...     return torch.zeros(len(states), states.shape[1] + targets.input_ids.shape[1], 4)
        >>> targets = TokenBatch(torch.tensor([[1, 2, 3], [1, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
        >>> likelihoods(decoder, torch.zeros(2, 5, 8), targets, budget=None)  # three and two of log(1/4)
        tensor([-4.1589, -2.7726])
    """

    def score(given: Tensor, wanted: TokenBatch) -> Tensor:
        logits = decoder(given, wanted)
        labels = wanted.input_ids.masked_fill(wanted.attention_mask == 0, IGNORED)
        ahead = labels.new_full(given.shape[:2], IGNORED)
        return sequence_log_likelihood(logits, torch.cat([ahead, labels], 1))

    return map_in_chunks(score, states, targets, budget=budget)


def targets_of(tokens: TokenBatch, decoder: nn.Module) -> TokenBatch:
    """Cut the texts themselves out of their templates and end each with the end-of-text token; (b, L), padded on the right.

    Raises:
        UsageError: if the texts do not stand in a template.

    Example:
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> from inbatch.text.tokens import tokenize
        >>> decoder = TinyDecoder()
        >>> tokens = tokenize(decoder.tokenizer, ["a cat", "dogs"], prompt="This says: {text}.")
        >>> decoder.tokenizer.batch_decode(targets_of(tokens, decoder).input_ids)  # what stands behind the end is padding
        ['a cat</s>', 'dogs</s></s>']
    """
    if "text" not in tokens.slots:
        raise UsageError(
            "expected the texts to decode in a template, which says where they begin and end; they have a prefix or nothing. Set "
            "encoder.prompts: {document: '{text}…'}."
        )
    tokenizer: object = decoder.tokenizer
    start, stop = tokens.slots["text"].unbind(1)
    lengths = stop - start
    place = torch.arange(int(lengths.max()) + 1, device=start.device)
    found = tokens.input_ids.gather(1, (start[:, None] + place).clamp(max=tokens.input_ids.shape[1] - 1))
    found = found.where(place < lengths[:, None], tokenizer.eos_token_id)  # type: ignore[attr-defined]
    return TokenBatch(found, (place <= lengths[:, None]).long())


def require_decoder(decoder: nn.Module, encoder: object, setting: str) -> int:
    """Refuse an encoder whose states a decoder cannot read; return the number k of its learned tokens.

    Raises:
        UsageError: if the encoder has no learned tokens, or its tokens or its hidden size are others; or if no token ends a text.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> prompts = {"query": "{text}{learned}", "document": "{text}{learned}"}
        >>> encoder = Encoder(TinyRandom("llama", learned_tokens=3), pooling="learned", prompts=prompts)
        >>> require_decoder(TinyDecoder("llama"), encoder, "objective.decoder")
        3
    """
    backbone = encoder.backbone  # type: ignore[attr-defined]
    if backbone.learned_tokens is None or encoder.pooling != "learned":  # type: ignore[attr-defined]
        raise UsageError(
            "decoding expects an encoder with learned tokens and pooling `learned`, whose states are decoded. Set "
            "backbone.learned_tokens (or start from the export of a stage that has them) and encoder.pooling."
        )
    require_same_tokens(decoder, encoder, setting, texts_only=True)
    size: object = decoder.hidden_size
    if size != backbone.hidden_size:
        raise UsageError(
            f"expected {setting} with hidden size {backbone.hidden_size}, the encoder's; got {size}. Set {setting} to the encoder's base."
        )
    if decoder.tokenizer.eos_token_id is None:  # type: ignore[attr-defined]
        raise UsageError(f"expected {setting} with an end-of-text token; its tokenizer has none. Choose another.")
    return len(backbone.learned_tokens.table)


def require_room(decoder: nn.Module, learned: int, batch: BatchFacts) -> None:
    """Refuse texts for which a decoder has too few positions.

    Args:
        decoder: `inbatch.models.networks.decoder.Decoder`.
        learned: k.
        batch: what batches are like.

    Raises:
        UsageError: if the states, a text and its end may be longer than the decoder takes.

    Example:
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> batch = BatchFacts(rows=8, negatives=0, scored=False, lengths={"document": 64})
        >>> require_room(TinyDecoder(max_length=64), 5, batch)
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a decoder with 70 positions, for 5 states, a document and its end; it has 64. Lower
        data.max_length (its document).
    """
    needed, positions = learned + batch.lengths.get("document", 0) + 1, decoder.max_positions
    if positions is not None and needed > positions:  # type: ignore[operator]
        raise UsageError(
            f"expected a decoder with {needed} positions, for {learned} states, a document and its end; it has {positions}. Lower "
            "data.max_length (its document)."
        )
