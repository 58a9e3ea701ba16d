"""What an encoder refuses when it is built: parts that do not fit together, and prompts that cannot be filled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from inbatch.errors import UsageError
from inbatch.models.heads.dense import HEADS
from inbatch.models.heads.pooling import OTHER_LAYER, POOLINGS
from inbatch.spelling import require_choice
from inbatch.text.templates import INSTRUCTION, LEARNED, SLOT, check_template, is_template

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone
    from inbatch.models.heads.latent_attention import LatentAttention
    from inbatch.models.heads.template_bias import TemplateBias


def check_parts(backbone: Backbone, pooling: str, head: Any, latent: LatentAttention | None) -> None:
    """Refuse a pooling, a head or a latent attention that the backbone cannot have.

    Raises:
        UsageError: if so.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> check_parts(TinyRandom(), "mean", None, None)
    """
    require_choice(pooling, POOLINGS, "encoder.pooling")
    if pooling == "mask" and backbone.tokenizer.mask_token_id is None:
        raise UsageError(
            "pooling `mask` expects a tokenizer with a mask token; this one has none. Choose another pooling."
        )
    if pooling == "learned" and backbone.learned_tokens is None:
        raise UsageError(
            "pooling `learned` expects a backbone with learned tokens; it has none. Set backbone.learned_tokens, or start from the "
            "export of a stage that has them."
        )
    if pooling == "last" and backbone.bidirectional == 1 and not isinstance(backbone.bidirectional, bool):
        raise UsageError(
            "pooling `last` with bidirectional: 1 is pooling `last` without: the last token sees the whole text anyway, and nothing "
            "reads what the others then see. Set encoder.pooling to mean, or backbone.bidirectional to 2 or more."
        )
    if latent is not None and (pooling == "learned" or pooling in OTHER_LAYER):
        raise UsageError(
            f"latent attention expects pooling by mean, mean_text, last, cls or mask; got {pooling}. Set encoder.pooling, or "
            "encoder.latent to null."
        )
    if backbone.brings_latent and latent is None:
        raise UsageError(
            f"{backbone.name} was exported with latent attention, which is no part of the network: it would be dropped. Set "
            "encoder.latent to inbatch.models.export.exported.ExportedLatentAttention, or to a new one."
        )
    if latent is not None and latent.settings["hidden_size"] != backbone.hidden_size:
        raise UsageError(
            f"expected latent attention with hidden_size={backbone.hidden_size}, the backbone's; got "
            f"{latent.settings['hidden_size']}. Set encoder.latent."
        )
    if head is not None and not isinstance(head, HEADS):
        raise UsageError(
            f"expected the head to be Dense or MLMTransform of inbatch.models.heads.dense, or null; got {type(head).__name__}, which no "
            "export can describe. Give a projector of training to the objective instead."
        )
    if head is not None and head.in_features != backbone.hidden_size:
        raise UsageError(
            f"expected a head with in_features={backbone.hidden_size}, the backbone's hidden size; got {head.in_features}"
        )


def check_prompts(
    tokenizer: Any, prompts: dict[str, str], ensembles: dict[str, list[str]], default: str | None, pooling: str
) -> None:
    """Refuse prompts that cannot be filled or pooled, and names that lead nowhere.

    Raises:
        UsageError: if so.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> check_prompts(TinyRandom().tokenizer, {"query": "find: "}, {}, "query", "mean")
    """
    for prompt in prompts.values():
        check_template(prompt, tokenizer, pooling)
    for name, members in ensembles.items():
        if not members or any(member not in prompts for member in members) or name in prompts:
            raise UsageError(
                f"expected the ensemble {name!r} to have a name of its own and to list prompts out of {', '.join(sorted(prompts))}; got "
                f"{members}. Set encoder.ensembles."
            )
    if default is not None and default not in {**prompts, **ensembles}:
        raise UsageError(
            f"expected default_prompt to be one of {', '.join(sorted([*prompts, *ensembles]))}; got {default!r}"
        )
    for member in {name for names in ensembles.values() for name in names} if pooling == "learned" else ():
        if LEARNED not in prompts[member]:
            raise UsageError(f"pooling `learned` expects {LEARNED} in each prompt of an ensemble; {member!r} has none.")


def check_correction(correction: TemplateBias, pooling: str, prompts: dict[str, str], head: nn.Module | None) -> None:
    """Refuse a template's bias where there is no one template, or no head to come before.

    Raises:
        UsageError: if so.

    Example:
        >>> from inbatch.models.heads.template_bias import TemplateBias
        >>> prompts = dict.fromkeys(("query", "document"), "{text} is {mask}")
        >>> check_correction(TemplateBias(after_head=False), "mask", prompts, None)
    """
    if not (pooling == "mask" and all(is_template(prompts[name]) for name in ("query", "document"))):
        raise UsageError(
            "a template's bias expects pooling `mask` and templates for query and document. Set encoder.pooling and "
            "encoder.prompts."
        )
    if any(p.count(SLOT) > 1 or INSTRUCTION in p for p in prompts.values()):
        raise UsageError(
            f"a template's bias expects templates with {SLOT} once and without {INSTRUCTION}. Set encoder.prompts, or "
            "encoder.correction to null."
        )
    if correction.after_head and head is None:
        raise UsageError(
            "correction.after_head expects a head to come after. Set encoder.head, or correction.after_head to false."
        )
