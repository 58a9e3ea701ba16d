"""The encoder: tokens of texts in, one vector a text out; what a model has at test, and nothing that exists in training only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.backbones.base import Backbone
from inbatch.models.encoder_checks import check_correction, check_parts, check_prompts
from inbatch.models.heads.dense import MLMTransform
from inbatch.models.heads.latent_attention import LatentAttention
from inbatch.models.heads.pooling import (
    NEEDS_SLOT,
    OTHER_LAYER,
    POOLINGS,
    PoolingName,
    States,
    with_mask_slot,
)
from inbatch.models.heads.pooling import at_learned as at_learned_tokens
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.norms import unit_rows
from inbatch.text.templates import LEARNED, is_template, parse
from inbatch.text.tokens import check_prefix
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.models.backbones.attention import Attention
    from inbatch.models.export.write import Export


class Encoder(nn.Module):
    """Embed texts: backbone, pooling, an optional head, and L2 normalisation.

    Every step treats each example by itself, so that a batch may be run in chunks of any size.

    Args:
        backbone: of `inbatch.models.backbones.pretrained`.
        pooling: ``mean``, ``cls``, ``last``, ``first_last``, ``first_last_h0`` (with the embeddings' output for the first layer's),
            ``avg_top2`` (of the last two layers), ``mask``, ``mean_text`` (the text's own tokens, without prompt) or ``learned`` (the
            learned tokens behind it).
        head: a `Dense` or `MLMTransform` that stays at test, or None. Projectors of training belong to the objective.
        normalize: divide each vector by its L2 norm, in float32.
        prompts: put in front of texts by name, or templates with ``{text}`` (twice for an echo), ``{mask}`` and ``{learned}``, each
            with ``{instruction}`` where the data's or the caller's goes; ``query`` and ``document`` are always there, empty by
            default. In training the anchor is the query, and the other views are documents.
        max_length: tokens kept of a text, special tokens included; None for what the backbone's folder says, else its tokenizer.
        correction: subtracts the template's own bias; every view then needs a template.
        default_prompt: name of the prompt that `encode` takes where none is asked for; ``query`` where the pooling is ``learned``.
        one_string_at_test: tokenize a filled template as one string in `encode`, as PromptBERT's release does at test; training
            tokenizes the text by itself.
        one_string: tokenize a filled template as one string in training, too.
        ensembles: names for lists of prompts; a text's embedding is then the mean of those that it has with each, as in MetaEOL. For
            `encode` only.
        latent: NV-Embed's latent attention on the states, before the pooling.
        period_at_test: end every text with a full stop in `encode`, as PromptBERT's release does at test.

    Attributes:
        instruction: what `encode` puts at a prompt's ``{instruction}`` where the caller gives none: one for all prompts, or by the
            prompt's name (``query``, ``document``, …); not part of an export.

    Raises:
        UsageError: if the parts do not fit together.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> encoder = Encoder(TinyRandom(), pooling="cls")
        >>> encoder.encode(["one", "two"]).shape
        torch.Size([2, 32])
    """

    instruction: str | Mapping[str, str] | None = None

    def __init__(
        self,
        backbone: Backbone,
        pooling: PoolingName = "mean",
        head: nn.Module | None = None,
        normalize: bool = True,
        prompts: dict[str, str] | None = None,
        max_length: int | None = None,
        correction: TemplateBias | None = None,
        default_prompt: str | None = None,
        one_string_at_test: bool = False,
        period_at_test: bool = False,
        one_string: bool = False,
        ensembles: dict[str, list[str]] | None = None,
        latent: LatentAttention | None = None,
    ):
        super().__init__()
        check_parts(backbone, pooling, head, latent)
        self.backbone = backbone
        self.pooling = pooling
        self.head: Any = head
        self.normalize = normalize
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.ensembles = {name: list(members) for name, members in (ensembles or {}).items()}
        self.latent = latent
        check_prompts(self.tokenizer, self.prompts, self.ensembles, default_prompt, pooling)
        if default_prompt is None and pooling == "learned" and LEARNED in self.prompts["query"]:
            default_prompt = "query"  # without a prompt there is nothing to pool
        if correction is not None:
            check_correction(correction, pooling, self.prompts, head)
            if correction.after_head and isinstance(head, MLMTransform):
                head.norm.bias.requires_grad_(False)  # head(h) - head(bias) does not depend on it
        self.correction = correction
        self.default_prompt = default_prompt
        self.one_string_at_test = one_string_at_test
        self.period_at_test = period_at_test
        self.one_string = one_string
        self.max_length = self.fitting(max_length)
        for prompt in self.prompts.values():
            if not is_template(prompt):
                check_prefix(self.tokenizer, prompt, self.max_length)

    @property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer, one of Hugging Face."""
        return self.backbone.tokenizer

    @property
    def dim(self) -> int:
        """Size d of the embeddings."""
        return self.backbone.hidden_size if self.head is None else self.head.out_features

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return self.backbone.device

    def forward(self, tokens: TokenBatch, bias: Tensor | None = None, normalize: bool = True) -> Tensor:
        """Embed tokens, in the module's mode and with gradient; (b, L) -> (b, d), at least float32.

        Args:
            tokens: b texts.
            bias: (b, h), what `bias` says of them; None subtracts nothing.
            normalize: False leaves out the encoder's normalisation.
        """
        tokens = self._slotted(tokens)
        return self._vectors(self._states(tokens), tokens, bias, normalize)

    def read(
        self, tokens: TokenBatch, reads: Collection[str], bias: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed tokens as `forward` does, and return beside the embeddings what is read of that pass.

        Args:
            tokens: b texts.
            reads: names, see `inbatch.losses.base.Encoded`; ``inbatch.models.reads.check_reads`` says which there are.
            bias: as in `forward`.

        Example:
            >>> from inbatch.models.backbones.pretrained import TinyRandom
            >>> from inbatch.text.tokens import tokenize
            >>> encoder = Encoder(TinyRandom(num_layers=2))
            >>> z, found = encoder.read(tokenize(encoder.tokenizer, ["a text"]), ["layers"])
            >>> found["layers"].shape
            torch.Size([1, 3, 8, 32])
        """
        tokens = self._slotted(tokens)
        states = self._states(tokens, reads)
        found = dict(states.reads)
        if "tokens" in reads:
            found["tokens"] = states.last
        if "states_at_learned" in reads:
            found["states_at_learned"] = at_learned_tokens(states, tokens)
        return self._vectors(states, tokens, bias), found

    def _slotted(self, tokens: TokenBatch) -> TokenBatch:
        """Return tokens with the places that the pooling reads, and refuse those that lack them."""
        if self.pooling == "mask":
            tokens = with_mask_slot(tokens, self.tokenizer.mask_token_id)
        if self.pooling in NEEDS_SLOT and NEEDS_SLOT[self.pooling] not in tokens.slots:
            raise UsageError(
                f"pooling `{self.pooling}` expects texts in a prompt with its place; these have none. Name the prompt, or set "
                "encoder.default_prompt and encoder.prompts."
            )
        return tokens

    def _states(self, tokens: TokenBatch, reads: Collection[str] = ()) -> States:
        """Run the backbone and what stands between it and the pooling."""
        asked: dict[str, Any] = {"reads": reads} if reads else {}  # a backbone of one's own may know none
        states = self.backbone(tokens, layer=OTHER_LAYER.get(self.pooling), **asked)
        return states if self.latent is None else replace(states, last=self.latent(states.last))

    def _vectors(self, states: States, tokens: TokenBatch, bias: Tensor | None, normalize: bool = True) -> Tensor:
        """Pool states, correct and project the vectors."""
        z = POOLINGS[self.pooling](states, tokens)
        after = bias is not None and self.correction is not None and self.correction.after_head
        if bias is not None and not after:
            z = z - bias.to(z.dtype)
        if self.head is not None:
            z = self.head(z)
            if after:
                z = z - self.head(bias)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return unit_rows(z) if self.normalize and normalize else z

    def at_learned(self, tokens: TokenBatch) -> Tensor:
        """Give the states at the learned tokens themselves, (b, L) -> (b, k, h), for objectives that read them one by one."""
        return at_learned_tokens(self.backbone(tokens), tokens)

    def bias(self, tokens: TokenBatch, prompt_name: str) -> Tensor | None:
        """Compute the template's bias of each text, (b, h), on the whole batch; None without a correction."""
        if self.correction is None:
            return None
        template = parse(self.tokenizer, self.prompts[prompt_name])
        return self.correction(self.backbone, template, tokens.lengths - len(template))

    def biases(self, views: Views[TokenBatch]) -> Tensor | None:
        """Compute the biases of all views, stacked in their order: the anchor's prompt is ``query``, the others' ``document``."""
        if self.correction is None:
            return None
        templates = [parse(self.tokenizer, self.prompts["document" if role else "query"]) for role in range(len(views))]
        lengths = [view.lengths - len(template) for view, template in zip(views, templates)]
        return self.correction.of_views(self.backbone, templates, lengths)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        instruction: str | None = None,
        token_budget: int = 16384,
        max_length: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Embed texts for use: in eval mode, without gradient; the mode is restored afterwards.

        Texts are sorted by length and cut into batches by tokens, so the cost follows their true length.

        Args:
            texts: n strings.
            prompt_name: key of the prompt put in front of each, or of an ensemble; None for the default, which mostly is no prompt.
            instruction: put into the prompt at ``{instruction}``, where it has that place.
            token_budget: padded tokens a batch may hold, rows times longest; a longer text makes a batch of its own.
            max_length: tokens kept of each text; None for the encoder's own.
            progress: show a progress bar on stderr.

        Returns:
            (n, d) float32 on the CPU, in the order of the texts.

        Raises:
            UsageError: if a text is no string, the prompt is unknown or lacks its instruction, or a number is out of range.
        """
        from inbatch.models.inference import encode

        return encode(self, texts, prompt_name, instruction, token_budget, max_length, progress)

    def save_pretrained(self, folder: str | Path, facts: dict[str, Any] | None = None) -> Export:
        """Write the encoder to a folder, reload it and compare; see `inbatch.models.export.write.export`."""
        from inbatch.models.export.write import export

        return export(self, folder, facts)

    @staticmethod
    def from_pretrained(
        name: str | Path,
        *,
        pooling: PoolingName | None = None,
        max_length: int | None = None,
        attention: Attention = "auto",
        base: str | Path | None = None,
    ) -> Encoder:
        """Load an encoder, in eval mode; see `inbatch.models.export.load.load_encoder`."""
        from inbatch.models.export.load import load_encoder

        return load_encoder(name, pooling=pooling, max_length=max_length, attention=attention, base=base)

    def fitting(self, max_length: int | None) -> int:
        """Return a text length, in tokens, that the backbone can hold; None for what its folder, else its tokenizer says (512 if none does).

        Raises:
            UsageError: if it leaves no room for a token of the text, or exceeds the backbone's positions.
        """
        positions = self.backbone.max_positions
        # Tokenizers without a limit say so with an astronomic number.
        said = self.backbone.own_length or self.tokenizer.model_max_length
        limits = [n for n in (positions, said) if n and n < 10**9]
        if max_length is None:
            return min(limits, default=512)
        special = self.tokenizer.num_special_tokens_to_add()
        if max_length <= special or (positions is not None and max_length > positions):
            raise UsageError(
                f"expected max_length in [{special + 1}, {positions or 'any'}], from the special tokens and the backbone's "
                f"positions; got {max_length}"
            )
        return max_length
