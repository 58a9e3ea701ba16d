"""The model card of an export: made from what the encoder is and from the facts that the caller knows, never from the network."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from inbatch.models.export.merging import merges_elsewhere
from inbatch.models.locate import hub_id
from inbatch.text.templates import INSTRUCTION

if TYPE_CHECKING:
    from inbatch.models.backbones.base import Backbone
    from inbatch.models.encoder import Encoder

_EXPECTED = ("data", "loss", "negatives", "scores", "commit")
_PACKAGES = ("inbatch", "torch", "transformers", "tokenizers", "peft")


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that embeddings depend on.

    Example:
        >>> "torch" in package_versions()
        True
    """
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_card(encoder: Encoder, facts: dict[str, Any], obstacle: str | None) -> str:
    """Write the card.

    Args:
        encoder: what is exported.
        facts: how it was trained; ``data``, ``loss``, ``negatives``, ``scores`` (a mapping) and ``commit`` are named as not
            recorded where they are missing, others are added as they are.
        obstacle: why sentence-transformers cannot express the encoder; None if it can.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> "mean" in model_card(Encoder(TinyRandom()), {}, None)
        True
    """
    return (
        "\n\n".join(
            [
                _front_matter(encoder, obstacle),
                f"# Text embeddings, {encoder.dim} dimensions",
                _description(encoder),
                "## Use",
                _usage(encoder, obstacle),
                "## Training",
                _training(facts),
            ]
        ).rstrip()
        + "\n"
    )


def _front_matter(encoder: Encoder, obstacle: str | None) -> str:
    import yaml

    fields: dict[str, Any] = {
        "pipeline_tag": "sentence-similarity",
        "tags": ["feature-extraction", "sentence-similarity", "inbatch"],
    }
    if obstacle is None:
        fields["library_name"] = "sentence-transformers"
    base = hub_id(encoder.backbone.name)
    if base is not None:
        fields["base_model"] = base
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _description(encoder: Encoder) -> str:
    backbone, head, correction = encoder.backbone, encoder.head, encoder.correction
    rows = {
        "base": f"`{backbone.name}`",
        "network": f"{type(backbone.network).__name__}, {backbone.config.get_text_config().num_hidden_layers} layers"
        + _bidirectional(backbone.bidirectional),
        "adapter": _adapter(backbone),
        "pooling": encoder.pooling,
        "head": "none" if head is None else f"{type(head).__name__} {head.in_features} → {head.out_features}",
        "normalised": "yes" if encoder.normalize else "no",
        "compared by": "cosine",
        "longest text": f"{encoder.max_length} tokens",
        "prompts": ", ".join(f"{name}: `{text}`" for name, text in encoder.prompts.items() if text) or "none",
    }
    if backbone.prefix is not None:
        rows["prefix"] = f"{backbone.prefix.length} keys and values before every layer, in `prefix.safetensors`"
    if backbone.learned_tokens is not None:
        rows["learned tokens"] = f"{len(backbone.learned_tokens)}, in `learned_tokens.safetensors`"
    if encoder.latent is not None:
        rows["latent attention"] = f"{encoder.latent.settings['latents']} latents, in `latent_attention.safetensors`"
    if encoder.ensembles:
        rows["means over prompts"] = "; ".join(f"{name}: {', '.join(of)}" for name, of in encoder.ensembles.items())
    if encoder.default_prompt is not None:
        rows["prompt by default"] = encoder.default_prompt
    if correction is not None:
        rows["template bias"] = "subtracted" if correction.template_bias_at_test else "subtracted in training only"
    return _table(rows)


def _adapter(backbone: Backbone) -> str:
    if not backbone.adapted:
        return "none"
    trained = f"trained on weights in {backbone.quantize}, " if backbone.quantize is not None else ""
    weights = "unquantized weights in float32" if merges_elsewhere(backbone) else "weights"
    return f"LoRA, {trained}merged into the {weights}; also apart in `adapter/`"


def _bidirectional(layers: bool | int) -> str:
    if isinstance(layers, bool):
        return ", bidirectional" if layers else ""
    return f", the last {layers} bidirectional"


def expressible_prompts(prompts: dict[str, str]) -> dict[str, str]:
    """Return the prompts that sentence-transformers knows by name: those without a place for an instruction.

    Example:
        >>> expressible_prompts({"query": "find: ", "task": "{instruction}: "})
        {'query': 'find: '}
    """
    return {name: prompt for name, prompt in prompts.items() if INSTRUCTION not in prompt}


def _usage(encoder: Encoder, obstacle: str | None) -> str:
    asking = [name for name, prompt in encoder.prompts.items() if INSTRUCTION in prompt]
    arguments = f', prompt_name="{asking[0]}", instruction="what to find"' if asking else ""
    own = (
        '```python\nfrom inbatch.models.encoder import Encoder\n\nencoder = Encoder.from_pretrained("path/to/this/folder")\n'
        f'embeddings = encoder.encode(["a text", "another"]{arguments})\n```'
    )
    if obstacle is not None:
        return f"{own}\n\nsentence-transformers cannot express this model ({obstacle}) and refuses to load the folder."
    theirs = f", prompt={encoder.prompts[asking[0]].replace(INSTRUCTION, 'what to find')!r}" if asking else ""
    return (
        f"{own}\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        f'model = SentenceTransformer("path/to/this/folder")\nembeddings = model.encode(["a text", "another"]{theirs})\n```'
    )


def _training(facts: dict[str, Any]) -> str:
    known = {name: value for name, value in facts.items() if value is not None and name not in ("scores", "versions")}
    blank = [name for name in _EXPECTED if facts.get(name) is None]
    parts = [_table({name: _inline(value) for name, value in known.items()})] if known else []
    for title, mapping in (("Scores", facts.get("scores")), ("Versions", facts.get("versions") or package_versions())):
        if mapping:
            parts.append(f"### {title}\n\n{_table({name: _inline(value) for name, value in mapping.items()})}")
    if blank:
        parts.append(f"Not recorded: {', '.join(blank)}.")
    return "\n\n".join(parts)


def _inline(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_inline(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_inline(item) for item in value)
    return str(value)


def _table(rows: dict[str, str]) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
