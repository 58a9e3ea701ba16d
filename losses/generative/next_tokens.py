"""Causal language modelling with the live backbone: each token from those before it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.kernels import map_in_chunks
from inbatch.losses.base import LossOutput, Objective, mean_over_ranks
from inbatch.losses.generative.compression import IGNORED, sequence_log_likelihood
from inbatch.views import TokenBatch, Views

# What configurations call a factor or a bound of the logits.
_SCALES = ("logits_scaling", "logit_scale", "final_logit_softcapping", "lm_head_multiplier")


class NextTokens(Objective):
    """Predict every token of the anchors but the first, with the input vectors as output vectors (tied embeddings).

    ``-mean log p(t_i | t_<i)`` over the tokens of the global batch. It makes a language model where none is at hand, such as the small
    decoder of a run on a laptop, and nothing of it is contrastive.

    Raises:
        UsageError: when it meets the encoder, if its tokens see those after them, its configuration does not tie the embeddings, its logits are
            scaled, or it has learned tokens.

    Source: Radford et al. 2018, eq. 1; Press and Wolf 2017, arXiv 1608.05859, for the tied vectors.

    Example:
        >>> from inbatch.models import Encoder, TinyRandom
        >>> from inbatch.text.tokens import tokenize
        >>> encoder = Encoder(TinyRandom("llama"))
        >>> _ = nn.init.zeros_(encoder.backbone.network.get_input_embeddings().weight)  # it finds all 260 tokens as likely
        >>> tokens = tokenize(encoder.tokenizer, ["a cat", "a dog"])
        >>> round(NextTokens()(Views(None, None), Views(tokens, tokens), encoder).loss.item(), 4)  # log 260
        5.5607
    """

    takes_prefixes = False
    takes_projected = False
    encoded = 0
    passes = "the backbone, over the anchors"

    def attach(self, encoder: Any) -> None:
        """See `Objective.attach`."""
        if not encoder.backbone.causal:
            raise UsageError(
                "predicting the next token expects a causal decoder; the encoder's tokens see those after them. Choose a decoder, and set "
                "backbone.bidirectional to false."
            )
        config = encoder.backbone.config.get_text_config()
        scaled = [name for name in _SCALES if getattr(config, name, None) not in (None, 1, 1.0)]
        if scaled or encoder.backbone.learned_tokens is not None:
            what = f"scales its logits ({scaled[0]})" if scaled else "has learned tokens"
            raise UsageError(
                f"predicting the next token expects a decoder whose logits are states times input vectors; this one {what}. Choose another "
                "backbone, and set backbone.learned_tokens to 0."
            )
        if not getattr(config, "tie_word_embeddings", False):
            raise UsageError(
                "predicting the next token expects a decoder with tied embeddings, whose language model is the network alone; this one has "
                "an output matrix of its own. Choose another backbone."
            )

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: Any) -> LossOutput:
        """Run the backbone over the anchors in chunks; see `Objective.forward`."""
        weight: nn.Parameter = encoder.backbone.network.get_input_embeddings().weight

        def score(given: TokenBatch) -> Tensor:
            states = encoder.backbone(given).last
            labels = given.input_ids.masked_fill(given.attention_mask == 0, IGNORED)
            # Where padding stands on the left, a text's first token has no token before it.
            first = given.attention_mask.int().argmax(1, keepdim=True)
            return sequence_log_likelihood(states @ weight.to(states.dtype).T, labels.scatter(1, first, IGNORED))

        likelihood = map_in_chunks(score, tokens.anchor, budget=self.chunk_tokens)
        count = (tokens.anchor.lengths - 1).sum()
        loss = mean_over_ranks(-likelihood.sum(), count)
        return LossOutput(loss)
