"""AutoRegEmbed's second stage: what a decoder expects behind a query must agree with what it expects behind the positive itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from inbatch.errors import UsageError
from inbatch.fingerprint import digest
from inbatch.losses.base import BatchFacts, LossOutput, Objective, mean_over_ranks
from inbatch.losses.generative.compression import likelihoods, require_decoder, require_room, targets_of
from inbatch.losses.generative.reference_scores import ReferenceScores
from inbatch.losses.refusals import refuse_scores, require_negatives, require_positive
from inbatch.spelling import require_choice
from inbatch.views import TokenBatch, Views

Sign = Literal["minus", "plus"]


class DistributionAlignment(Objective):
    """Align conditional distributions by log-likelihoods of a frozen decoder; negatives are those of the row, not of the batch.

    The encoder embeds anchor q and positive d⁺; the decoder scores d⁺ behind both and each hard negative d⁻ behind q, and
    `alignment_loss` joins them with the scores of a reference model, the encoder as it was before this stage.

    Args:
        decoder: `inbatch.models.networks.decoder.Decoder`: the untouched base of the encoder.
        reference: file of reference scores, which `inbatch synthesize reference-scores` makes with the same configuration.
        beta: factor of the log-likelihoods inside of the logistic function.
        temperature: τ.
        reference_sign: of the reference's log-ratio: ``minus`` as in the paper and the first release, ``plus`` as in the code since.
        joint_negatives: one denominator for all negatives of a row, as in the paper; False averages over single ones, as released.

    Attributes:
        made_with: what the reference scores must have been made with: the encoder as it met the objective.

    Raises:
        UsageError: if a number is out of range; when it meets the encoder, as `InformationCompression`; before the first step, if
            rows lack a hard negative, texts have no ids of their own, or scores are missing or made otherwise.
        MissingError: before the first step, if there is no file of scores.

    Source: Deng et al. 2025, arXiv 2502.11401, section 3.3; released code for the logistic functions.

    Example:
        >>> from inbatch.losses.base import Encoded
        >>> from inbatch.losses.generative.reference_scores import pair_keys
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> from inbatch.text.tokens import tokenize
        >>> objective = DistributionAlignment(TinyDecoder(), "scores.safetensors")
        >>> ids, z = torch.tensor([1]), torch.zeros(1, 32)
        >>> ReferenceScores(pair_keys(ids, ids), torch.tensor([-9.0]), {}, "").save(objective.reference)
        >>> text = tokenize(objective.decoder.tokenizer, ["a cat"], prompt="{text}")
        >>> tokens = Views(text, text, (text,), ids=Views(ids, ids, (ids,)))
        >>> encoded = Encoded(z, {"states_at_learned": torch.zeros(1, 2, 32)}, text.lengths)
        >>> objective.encodings = Views(encoded, encoded, (None,))  # the module hands it what it reads
        >>> round(objective(Views(z, z, (None,)), tokens, None).loss.item(), 4)  # query, positive and negative are one text: log 2
        0.6931
    """

    takes_prefixes = False
    takes_projected = False
    encoded = 2
    passes = "the decoder, over positives (twice) and hard negatives"
    reads = frozenset({"states_at_learned"})

    def __init__(
        self,
        decoder: nn.Module,
        reference: str,
        beta: float = 0.1,
        temperature: float = 0.1,
        reference_sign: Sign = "minus",
        joint_negatives: bool = True,
    ) -> None:
        super().__init__()
        require_positive(beta, "objective.beta")
        require_positive(temperature, "objective.temperature")
        require_choice(reference_sign, get_args(Sign), "objective.reference_sign")
        self.decoder = decoder
        self.reference = str(Path(reference).expanduser())
        self.beta = beta
        self.temperature = temperature
        self.reference_sign: Sign = reference_sign
        self.joint_negatives = joint_negatives
        self.made_with: dict[str, str] = {}
        self.learned = 0
        self._scores: ReferenceScores | None = None

    def attach(self, encoder: object) -> None:
        """See `Objective.attach`."""
        self.learned = require_decoder(self.decoder, encoder, "objective.decoder")
        self.made_with = facts_of(encoder, self.decoder)

    def prepare(self, batch: BatchFacts) -> None:
        """Refuse rows that cannot be scored, and note what their scores depend on besides the two networks.

        Raises:
            UsageError: if rows have scores of their own, lack a hard negative, have ids that do not say what the model reads, or may
                be longer than the decoder takes.
        """
        refuse_scores(batch.some_scored, self)
        require_negatives(batch, self)
        if not batch.by_text or batch.altered:
            setting = "data.repetition and data.edits to null" if batch.altered else "data.ids to text"
            raise UsageError(
                f"reference scores are kept by what the texts are; here a text's id does not say what the model reads. Set {setting}."
            )
        require_room(self.decoder, self.learned, batch)
        self.made_with["max_length"] = ", ".join(f"{side} {length}" for side, length in batch.lengths.items())
        self.made_with["precision"] = batch.precision

    def check(self, batch: BatchFacts) -> None:
        """See `Objective.check`."""
        self.prepare(batch)
        scores = self._read()
        if batch.pairs is not None:
            scores.require(batch.pairs())

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        """Score positives and negatives in chunks and align; see `Objective.forward`."""
        assert tokens.ids is not None, "the data module gives ids"
        texts = [tokens.positive, tokens.positive, *tokens.negatives]
        assert self.encodings is not None
        query, itself = (e.reads["states_at_learned"] for e in (self.encodings.anchor, self.encodings.positive))
        states = [query, itself, *[query] * len(tokens.negatives)]
        targets = TokenBatch.cat([targets_of(view, self.decoder) for view in texts])
        scored = likelihoods(self.decoder, torch.cat(states), targets, self.chunk_tokens)
        positive, behind_itself, *negatives = scored.chunk(len(texts))
        reference = self._read().of(tokens.ids, tokens.instructions).to(scored.device)
        losses = alignment_loss(
            positive,
            behind_itself,
            torch.stack(negatives, 1),
            reference[:, 0],
            reference[:, 1:],
            beta=self.beta,
            temperature=self.temperature,
            sign=self.reference_sign,
            joint=self.joint_negatives,
        )
        gap = (positive - behind_itself).abs().mean().detach()
        margin = (positive[:, None] - torch.stack(negatives, 1)).mean().detach()
        loss = mean_over_ranks(losses.sum(), losses.new_tensor(len(losses)))
        return LossOutput(loss, {"distance": gap, "margin": margin, "likelihood": positive.mean().detach()})

    def _read(self) -> ReferenceScores:
        if self._scores is None:
            self._scores = ReferenceScores.load(self.reference)
            self._scores.require_made_with(self.made_with)
        return self._scores


def facts_of(encoder: Any, decoder: nn.Module) -> dict[str, str]:
    """Say what reference scores depend on besides the texts' lengths and the precision: the prompts, and both networks.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.models.networks.decoder import TinyDecoder
        >>> encoder = Encoder(TinyRandom("llama"), prompts={"query": "Question: "})
        >>> facts, others = facts_of(encoder, TinyDecoder()), facts_of(encoder, TinyDecoder(seed=4))
        >>> facts["query"], [name for name in facts if facts[name] != others[name]]
        ('Question: ', ['decoder'])
    """
    return {
        "query": encoder.prompts["query"],
        "document": encoder.prompts["document"],
        "one_string": str(encoder.one_string),
        "encoder": digest(encoder.parameters()),
        "decoder": digest(decoder.parameters()),
    }


def alignment_loss(
    positive: Tensor,
    itself: Tensor,
    negatives: Tensor,
    reference_positive: Tensor,
    reference_negatives: Tensor,
    *,
    beta: float,
    temperature: float,
    sign: Sign = "minus",
    joint: bool = True,
) -> Tensor:
    """Compute each row's loss, with one negative ``softplus((s1 - s2) / temperature)``.

    ``s1 = σ(β·|positive − itself|)`` falls as q and d⁺ agree on d⁺; ``s2 = σ(β·((positive − negative) ∓ (reference's the same)))``
    rises as q tells d⁺ from d⁻ better than the reference did.

    Args:
        positive: (b,) log p(d⁺ | q), a sum over tokens.
        itself: (b,) log p(d⁺ | d⁺).
        negatives: (b, k) log p(d⁻ | q).
        reference_positive: (b,) the reference model's log p(d⁺ | q).
        reference_negatives: (b, k) its log p(d⁻ | q).
        beta: β.
        temperature: τ.
        sign: of the reference's log-ratio.
        joint: ``log(1 + Σ_k exp((s1 − s2_k)/τ))``; else the mean over k of the losses with one negative.

    Returns:
        (b,), at least float32.

    Example:
        >>> positive, negatives = torch.tensor([-10.0, -10.0]), torch.tensor([[-10.0], [-110.0]])
        >>> reference = torch.tensor([-10.0, -10.0])  # it tells nothing apart; in the second row the decoder does
        >>> losses = alignment_loss(positive, positive, negatives, reference, reference[:, None], beta=1.0, temperature=1.0)
        >>> losses  # softplus of 0 and of -1/2
        tensor([0.6931, 0.4741])
    """
    s1 = torch.sigmoid(beta * (positive - itself).abs())
    ratio = positive[:, None] - negatives
    reference = reference_positive[:, None] - reference_negatives
    s2 = torch.sigmoid(beta * (ratio - reference if sign == "minus" else ratio + reference))
    logits = (s1[:, None] - s2) / temperature
    return softplus(logits.logsumexp(1)) if joint else softplus(logits).mean(1)
