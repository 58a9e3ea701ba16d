"""The encoder: tokens of texts in, one vector a text out; what a model has at test, and nothing that exists in training only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inbatch.errors import UsageError
from inbatch.models.backbones import Backbone
from inbatch.models.correction import TemplateBias
from inbatch.models.heads import HEADS, MLMTransform
from inbatch.models.pooling import POOLINGS, PoolingName, with_mask_slot
from inbatch.templates import check_template, is_template, parse, with_period
from inbatch.tokens import tokenize
from inbatch.views import TokenBatch, Views

if TYPE_CHECKING:
    from inbatch.models.attention import Attention
    from inbatch.models.export import Export

# Texts tokenized at a time in encode: bounds the memory of tokens, whatever the length of the list.
_TOKENIZED = 4096


class Encoder(nn.Module):
    """Embed texts: backbone, pooling, an optional head, and L2 normalisation.

    Every step treats each example by itself, so that a batch may be run in chunks of any size.

    Args:
        backbone: of `inbatch.models.backbones`.
        pooling: ``mean``, ``cls``, ``last``, ``first_last`` or ``mask``.
        head: a `Dense` or `MLMTransform` that stays at test, or None. Projectors of training belong to the objective.
        normalize: divide each vector by its L2 norm, in float32.
        prompts: put in front of texts by name, or templates with ``{text}`` and ``{mask}``; ``query`` and ``document`` are always
            there, empty by default. In training the anchor is the query, and the other views are documents.
        max_length: tokens kept of a text, special tokens included; None for what tokenizer and backbone allow.
        correction: subtracts the template's own bias; every view then needs a template.
        default_prompt: name of the prompt that `encode` takes where none is asked for.
        one_string_at_test: tokenize a filled template as one string in `encode`, as PromptBERT's release does at test; training
            tokenizes the text by itself.
        period_at_test: end every text with a full stop in `encode`, as PromptBERT's release does at test.

    Raises:
        UsageError: if the parts do not fit together.
    """

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
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise UsageError(f"expected pooling to be one of {', '.join(POOLINGS)}; got {pooling!r}")
        if pooling == "mask" and backbone.tokenizer.mask_token_id is None:
            raise UsageError(
                "pooling `mask` expects a tokenizer with a mask token; this one has none. Choose another pooling."
            )
        if head is not None and not isinstance(head, HEADS):
            raise UsageError(
                f"expected the head to be Dense or MLMTransform of inbatch.models.heads, or null; got {type(head).__name__}, which no "
                "export can describe. Give a projector of training to the objective instead."
            )
        if head is not None and head.in_features != backbone.hidden_size:
            raise UsageError(
                f"expected a head with in_features={backbone.hidden_size}, the backbone's hidden size; got {head.in_features}"
            )
        self.backbone = backbone
        self.pooling = pooling
        self.head = head
        self.normalize = normalize
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        for prompt in self.prompts.values():
            check_template(prompt, self.tokenizer, masked=pooling == "mask")
        if default_prompt is not None and default_prompt not in self.prompts:
            raise UsageError(
                f"expected default_prompt to be one of {', '.join(sorted(self.prompts))}; got {default_prompt!r}"
            )
        if correction is not None and not (
            pooling == "mask" and all(is_template(self.prompts[name]) for name in ("query", "document"))
        ):
            raise UsageError(
                "a template's bias expects pooling `mask` and templates for query and document. Set encoder.pooling and "
                "encoder.prompts."
            )
        if correction is not None and correction.after_head:
            if head is None:
                raise UsageError(
                    "correction.after_head expects a head to come after. Set encoder.head, or after_head to false."
                )
            if isinstance(head, MLMTransform):
                head.norm.bias.requires_grad_(False)  # head(h) - head(bias) does not depend on it
        self.correction = correction
        self.default_prompt = default_prompt
        self.one_string_at_test = one_string_at_test
        self.period_at_test = period_at_test
        self.max_length = self.fitting(max_length)

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

    def forward(self, tokens: TokenBatch, bias: Tensor | None = None) -> Tensor:
        """Embed tokens, in the module's mode and with gradient; (b, L) -> (b, d), at least float32.

        Args:
            tokens: b texts.
            bias: (b, h), what `bias` says of them; None subtracts nothing.
        """
        if self.pooling == "mask":
            tokens = with_mask_slot(tokens, self.tokenizer.mask_token_id)
        states = self.backbone(tokens, first_layer=self.pooling == "first_last")
        z = POOLINGS[self.pooling](states, tokens)
        after = bias is not None and self.correction is not None and self.correction.after_head
        if bias is not None and not after:
            z = z - bias.to(z.dtype)
        if self.head is not None:
            z = self.head(z)
            if after:
                z = z - self.head(bias)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return nn.functional.normalize(z, dim=-1) if self.normalize else z

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

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        token_budget: int = 16384,
        max_length: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Embed texts for use: in eval mode, without gradient; the mode is restored afterwards.

        Texts are sorted by length and cut into batches by tokens, so the cost follows their true length.

        Args:
            texts: n strings.
            prompt_name: key of the prompt put in front of each; None for the default, which mostly is no prompt.
            token_budget: padded tokens a batch may hold, rows times longest; a longer text makes a batch of its own.
            max_length: tokens kept of each text; None for the encoder's own.
            progress: show a progress bar on stderr.

        Returns:
            (n, d) float32 on the CPU, in the order of the texts.

        Raises:
            UsageError: if a text is no string, the prompt is unknown, or a number is out of range.
        """
        if isinstance(texts, str):
            raise UsageError("expected a list of texts to encode; got one string. Put it in a list.")
        if prompt_name is not None and prompt_name not in self.prompts:
            raise UsageError(
                f"expected prompt_name to be one of {', '.join(sorted(self.prompts))}; got {prompt_name!r}"
            )
        if token_budget < 1:
            raise UsageError(f"expected a token_budget of at least 1; got {token_budget}")
        max_length = self.max_length if max_length is None else self.fitting(max_length)
        prompt_name = self.default_prompt if prompt_name is None else prompt_name
        prompt = "" if prompt_name is None else self.prompts[prompt_name]
        corrected = self.correction is not None and self.correction.template_bias_at_test and is_template(prompt)
        if is_template(prompt) and self.backbone.max_positions is not None:
            max_length = min(max_length, self.backbone.max_positions - len(parse(self.tokenizer, prompt)))
        items: list[Any] = list(texts)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise UsageError(
                    f"expected texts of type str to encode; item {index} is {type(item).__name__}: {item!r:.60}"
                )
        out = torch.empty(len(items), self.dim)
        # Characters tell the length roughly, before tokenizing.
        order = sorted(range(len(items)), key=lambda i: len(items[i]), reverse=True)
        with evaluating(self), _bar(len(items), progress) as advance:
            for start in range(0, len(order), _TOKENIZED):
                rows = torch.tensor(order[start : start + _TOKENIZED])
                given = [with_period(items[i]) if self.period_at_test else items[i] for i in rows.tolist()]
                tokens = tokenize(self.tokenizer, given, max_length, prompt, self.one_string_at_test)
                for batch in token_batches(tokens.lengths, token_budget):
                    part = tokens.select(batch).trim().to(self.device)
                    z = self(part, self.bias(part, prompt_name) if corrected and prompt_name else None)
                    out[rows[batch]] = z.float().cpu()
                    advance(len(batch))
        return out

    def save_pretrained(self, folder: str | Path, facts: dict[str, Any] | None = None) -> Export:
        """Write the encoder to a folder, reload it and compare; see `inbatch.models.export.export`."""
        from inbatch.models.export import export

        return export(self, folder, facts)

    @staticmethod
    def from_pretrained(
        name: str | Path,
        *,
        pooling: PoolingName | None = None,
        max_length: int | None = None,
        attention: Attention = "auto",
    ) -> Encoder:
        """Load an encoder, in eval mode; see `inbatch.models.loading.load_encoder`."""
        from inbatch.models.loading import load_encoder

        return load_encoder(name, pooling=pooling, max_length=max_length, attention=attention)

    def fitting(self, max_length: int | None) -> int:
        """Return a text length, in tokens, that tokenizer and backbone can hold; None for the longest (512 if neither says).

        Raises:
            UsageError: if it leaves no room for a token of the text, or exceeds the backbone's positions.
        """
        # Tokenizers without a limit say so with an astronomic number.
        limits = [n for n in (self.backbone.max_positions, self.tokenizer.model_max_length) if n and n < 10**9]
        positions = self.backbone.max_positions
        if max_length is None:
            return min(limits, default=512)
        special = self.tokenizer.num_special_tokens_to_add()
        if max_length <= special or (positions is not None and max_length > positions):
            raise UsageError(
                f"expected max_length in [{special + 1}, {positions or 'any'}], from the special tokens and the backbone's "
                f"positions; got {max_length}"
            )
        return max_length


def token_batches(lengths: Tensor, budget: int) -> Iterator[Tensor]:
    """Cut texts into batches of similar length, the longest first.

    Args:
        lengths: (n,) tokens of each text.
        budget: rows times longest row of a batch, at most; a batch holds at least one row.

    Yields:
        int64 indices of a batch's rows.
    """
    order = lengths.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode, and each of its parts back into its own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(total=total, disable=not shown, unit="text", desc="encode") as bar:
        yield bar.update
