"""Write an encoder to a folder, reload it and compare; the folder that stood there before stays until the new one is proven."""

from __future__ import annotations

import copy
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inbatch.errors import InbatchError, UsageError
from inbatch.models.adapters.lora import base_sha256, files_sha256, merged_state, save_adapter, without_adapter
from inbatch.models.adapters.quantization import is_quantized, plain_network
from inbatch.models.export.card import expressible_prompts, model_card, package_versions
from inbatch.models.export.exact_arithmetic import exact_arithmetic
from inbatch.models.export.folders import replacing
from inbatch.models.export.load import load_encoder
from inbatch.models.export.merging import as_merged
from inbatch.models.export.sentence_transformers import (
    DENSE,
    Layout,
    obstacle_of,
    write_dense,
    write_layout,
    write_refusal,
)
from inbatch.models.export.state import describe_parts, write_parts
from inbatch.models.heads.dense import Dense
from inbatch.models.huggingface import quiet
from inbatch.models.locate import MINILM, base_name, hub_id
from inbatch.models.record import FORMAT, MODULES, RECORD, write_json
from inbatch.text.templates import INSTRUCTION, LEARNED, is_template

if TYPE_CHECKING:
    from inbatch.models.encoder import Encoder

logger = logging.getLogger(__name__)

ADAPTER = "adapter"
PROBES = (
    "How is the inverse of a matrix computed?",
    "def add(a, b):\n    return a + b",
    "naïve café, 漢字 and emoji 🙂",
    "A longer text, so that the batch has rows of unequal length and every row but this one is padded. " * 2,
    "x",
)
# Largest difference, relative to the norm, between an encoder and its reload.
TOLERANCE = 1e-5
# An adapter merged into half-precision weights is rounded to them.
MERGED_HALF_TOLERANCE = 5e-2


@dataclass(frozen=True)
class Export:
    """What an export found.

    Attributes:
        folder: where it lies.
        obstacle: why sentence-transformers cannot load the folder; None if it can.
        difference: largest difference between embeddings of the live and the reloaded encoder, relative to their norm; where adapters
            were merged into unquantized weights, the live encoder is that on those (`as_merged`).
        adapter_effect: the same between the encoder with and without its adapter; None without one. 0 means that the export
            equals its base.

    Example:
        >>> Export(Path("export"), None, 0.0, None).obstacle is None
        True
    """

    folder: Path
    obstacle: str | None
    difference: float
    adapter_effect: float | None


def export(encoder: Encoder, folder: str | Path, facts: dict[str, Any] | None = None) -> Export:
    """Write an encoder to a folder that `load_encoder`, and where possible sentence-transformers, loads with equal embeddings.

    The folder holds the network (adapters merged) and tokenizer, the legacy layout of sentence-transformers where it can express
    the encoder, `inbatch.json`, a model card, and ``adapter/`` where there is one. It is written beside its place, reloaded,
    compared, flushed to disk, and put into its place in one step.

    Args:
        encoder: stays as it is.
        folder: created, or replaced if an export lies there.
        facts: how it was trained, for card and record; see `model_card`.

    Raises:
        UsageError: if the folder holds something else.
        InbatchError: if the reloaded encoder differs.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(Encoder(TinyRandom()), folder).difference < TOLERANCE
        True
    """
    target = Path(folder).expanduser().absolute()
    _refuse_to_overwrite(target)
    facts = {"versions": package_versions(), **(facts or {})}
    obstacle = obstacle_of(encoder)
    with exact_arithmetic(encoder.device):
        effect = _adapter_effect(encoder)
        with replacing(target) as temporary:
            record = _record(encoder, facts, obstacle)
            (temporary / "README.md").write_text(model_card(encoder, facts, obstacle), encoding="utf-8")
            if encoder.backbone.adapted:
                _write_adapter(encoder, temporary / ADAPTER, record)
            with as_merged(encoder.backbone, temporary / ADAPTER):
                _write(encoder, temporary, record, obstacle)
                difference = _compare(encoder, temporary)
    if effect is not None and effect <= TOLERANCE:
        logger.warning(
            "the adapter in %s has no effect yet: embeddings equal those of the base %s", target, encoder.backbone.name
        )
    return Export(target, obstacle, difference, effect)


def _record(encoder: Encoder, facts: dict[str, Any], obstacle: str | None) -> dict[str, Any]:
    backbone = encoder.backbone
    return {
        "format": FORMAT,
        "kind": "model",
        "pooling": encoder.pooling,
        "normalize": encoder.normalize,
        "max_length": encoder.max_length,
        "prompts": encoder.prompts,
        "head": isinstance(encoder.head, Dense),
        **describe_parts(encoder),
        "dtype": _dtype(encoder),
        "base": {
            "name": base_name(backbone.name),
            "folder": _folder_of(backbone.name),
            "revision": backbone.revision,
            "layers": backbone.config.get_text_config().num_hidden_layers,
            "bidirectional": backbone.bidirectional,
            "quantize": backbone.quantize,
            "merge_into": backbone.merge_into,
        },
        "merged": backbone.adapted,
        "lora": None if backbone.lora is None else asdict(backbone.lora),
        "sentence_transformers": obstacle or "loads",
        "facts": facts,
    }


def _dtype(encoder: Encoder) -> str:
    return str(encoder.backbone.network.dtype).removeprefix("torch.")


def _write(encoder: Encoder, folder: Path, record: dict[str, Any], obstacle: str | None) -> None:
    backbone = encoder.backbone
    whole = not backbone.adapted and not is_quantized(backbone.network)
    network = plain_network(backbone.network) if is_quantized(backbone.network) else backbone.network
    with quiet():
        network.save_pretrained(folder, state_dict=None if whole else merged_state(backbone.network))
    _portable_tokenizer(encoder).save_pretrained(folder)
    head: Dense | None = encoder.head if isinstance(encoder.head, Dense) else None
    if obstacle is None:
        layout = Layout(
            encoder.pooling,
            encoder.normalize,
            encoder.max_length,
            expressible_prompts(encoder.prompts),
            head,
            default_prompt=encoder.default_prompt,
        )
        write_layout(folder, layout, backbone.hidden_size)
    else:
        write_refusal(folder)
        if head is not None:
            write_dense(folder / DENSE, head)
    write_parts(folder, encoder)
    write_json(folder / RECORD, record | {"dtype": _dtype(encoder)})


def _write_adapter(encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
    backbone, name = encoder.backbone, record["base"]["name"]
    save_adapter(backbone.model, folder, base=hub_id(name) or name)  # type: ignore[arg-type]
    write_refusal(folder)
    if isinstance(encoder.head, Dense):
        write_dense(folder / DENSE, encoder.head)
    write_parts(folder, encoder)
    _portable_tokenizer(encoder).save_pretrained(folder)
    # Packed weights depend on where they were packed.
    packed = backbone.quantize is not None and backbone.folder is not None
    sha256 = files_sha256(backbone.folder) if packed else base_sha256(backbone.network)  # type: ignore[arg-type]
    write_json(folder / RECORD, record | {"kind": "adapter", "base": record["base"] | {"sha256": sha256}})


def _compare(encoder: Encoder, folder: Path) -> float:
    """Reload a folder and return the largest relative difference; raise if it is too large."""
    backbone = encoder.backbone
    attention = (
        "auto" if backbone.adapts else {"flash_attention_2": "flash"}.get(backbone.attention, backbone.attention)
    )
    reloaded = load_encoder(folder, attention=attention).to(encoder.device)  # type: ignore[arg-type]
    difference = max(_difference(probe(encoder, name), probe(reloaded, name)) for name in _prompt_names(encoder))
    half = backbone.network.dtype in (torch.bfloat16, torch.float16)
    # Products with packed weights are rounded as those of half-precision weights are, whatever their dtype.
    tolerance = MERGED_HALF_TOLERANCE if (half and backbone.adapted) or backbone.quantize else TOLERANCE
    # Not `>`: a NaN must not pass.
    if not difference <= tolerance:
        raise InbatchError(
            f"expected the reloaded export to embed as the model in memory; the largest relative difference is {difference:.2g} "
            f"(at most {tolerance:.0e}), and the folder was not kept. Check the weights for NaN, then the versions of transformers."
        )
    return difference


def _adapter_effect(encoder: Encoder) -> float | None:
    if not encoder.backbone.adapted:
        return None
    with without_adapter(encoder.backbone.model):  # type: ignore[arg-type]
        base = probe(encoder)
    return _difference(base, probe(encoder))


def _prompt_names(encoder: Encoder) -> list[str | None]:
    """Name the prompts that an embedding can be made with; None is the default."""
    names = [*sorted(encoder.prompts), *sorted(encoder.ensembles)]
    if encoder.pooling != "learned":
        return [None, *names]
    able = [name for name in names if name in encoder.ensembles or LEARNED in encoder.prompts[name]]
    if not able:
        raise UsageError(f"pooling `learned` expects a prompt with {LEARNED}; there is none. Set encoder.prompts.")
    return [*able]


def probe(encoder: Encoder, prompt_name: str | None = None) -> Tensor:
    """Embed the probes, with a prompt or with the first that the encoder can embed with.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> probe(Encoder(TinyRandom())).shape
        torch.Size([5, 32])
    """
    texts = list(PROBES)
    prompt_name = prompt_name or _prompt_names(encoder)[0]
    name = prompt_name or encoder.default_prompt
    members = [] if name is None else encoder.ensembles.get(name, [name])
    instruction = "Embed it." if any(INSTRUCTION in encoder.prompts[member] for member in members) else None
    if encoder.pooling == "mask":
        # In front, where truncation leaves it; a prompt that has the token is enough by itself.
        token = encoder.tokenizer.mask_token
        prompt = encoder.prompts.get(name or "", "")
        if token not in prompt and not is_template(prompt):
            texts = [f"{token} {text}" for text in texts]
    return encoder.encode(texts, prompt_name=prompt_name, instruction=instruction)


def _difference(a: Tensor, b: Tensor) -> float:
    norm = a.norm(dim=1, keepdim=True).clamp(min=torch.finfo(a.dtype).tiny)
    return float(((a - b).abs() / norm).max())


def _portable_tokenizer(encoder: Encoder) -> Any:
    """Return the tokenizer to save; its padding goes right where other programs would give left-padded texts wrong positions.

    The truncation that lies in its file is the encoder's, not that of the last batch of training; none where a template comes on top.
    """
    tokenizer, config = encoder.tokenizer, encoder.backbone.config.get_text_config()
    rotary = getattr(config, "rope_parameters", None) is not None or getattr(config, "rope_theta", None) is not None
    if tokenizer.padding_side != "right" and not rotary:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.padding_side = "right"
    if tokenizer.is_fast and any(map(is_template, encoder.prompts.values())):
        tokenizer.backend_tokenizer.no_truncation()
    elif tokenizer.is_fast:
        tokenizer.backend_tokenizer.enable_truncation(encoder.max_length, direction=tokenizer.truncation_side)
    return tokenizer


def _folder_of(name: str) -> str | None:
    """Return where a base that is a folder lies on this machine: tried first when the adapter is loaded, and only a hint."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name != MINILM and path.is_dir() else None


def _refuse_to_overwrite(target: Path) -> None:
    if not target.exists():
        return
    ours = target.is_dir() and (
        not any(target.iterdir()) or (target / RECORD).is_file() or (target / MODULES).is_file()
    )
    if not ours:
        raise UsageError(
            f"expected a new or empty folder, or an earlier export, at {target}; something else lies there"
        )
