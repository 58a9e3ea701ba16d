"""Load an encoder from what lies in a folder: our export, a sentence-transformers folder, an adapter, or a plain network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from inbatch.errors import MissingError, UsageError
from inbatch.models.adapters.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_sha256, files_sha256, load_adapter
from inbatch.models.backbones.attention import Attention
from inbatch.models.backbones.pretrained import Pretrained
from inbatch.models.encoder import Encoder
from inbatch.models.export.sentence_transformers import DENSE, read_dense, read_layout
from inbatch.models.export.state import read_parts, read_prefix
from inbatch.models.heads.pooling import PoolingName
from inbatch.models.huggingface import load_tokenizer
from inbatch.models.locate import locate
from inbatch.models.record import MODULES, RECORD, read_json, read_record

logger = logging.getLogger(__name__)

Kind = Literal["model", "adapter", "sentence-transformers", "plain"]


def load_encoder(
    name: str | Path,
    *,
    pooling: PoolingName | None = None,
    max_length: int | None = None,
    attention: Attention = "auto",
    base: str | Path | None = None,
) -> Encoder:
    """Load an encoder, in eval mode.

    Args:
        name: ``minilm``, a folder or a hub id, of any `folder_kind`.
        pooling: for a plain network, which has none of its own; None takes the mean and says so.
        max_length: tokens kept of a text; None for what was saved.
        attention: as in `Pretrained`.
        base: of an adapter, where it does not lie under the name that the adapter has for it.

    Raises:
        MissingError: if a file or a base is not there.
        UsageError: if the folder holds what an `Encoder` cannot express, or ``pooling`` contradicts it.

    Example:
        >>> import tempfile
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Encoder(TinyRandom(), pooling="cls").save_pretrained(folder)
        ...     load_encoder(folder).pooling
        'cls'
    """
    folder = locate(name)
    kind = folder_kind(folder)
    if base is not None and kind != "adapter":
        raise UsageError(
            f"expected a base for an adapter only; {name} is none: it holds whole weights. Leave base out."
        )
    if kind == "adapter":
        encoder = _from_adapter(folder, pooling, attention, base)
    elif kind == "model":
        record = read_record(folder)
        backbone = _network(folder, attention, dtype=record["dtype"], prefix=read_prefix(record))
        encoder = _recorded(backbone, record, folder)
    elif kind == "sentence-transformers":
        encoder = _from_layout(folder, attention)
    else:
        if pooling is None:
            logger.info("%s is a plain network and says no pooling: taking the mean of the tokens", name)
        encoder = Encoder(_network(folder, attention), pooling=pooling or "mean")
    if pooling is not None and pooling != encoder.pooling:
        raise UsageError(
            f"expected pooling {encoder.pooling}, with which {name} was saved; got {pooling}. Leave it out."
        )
    if not encoder.backbone.adapted:
        encoder.backbone.name = str(name)
    if max_length is not None:
        encoder.max_length = encoder.fitting(max_length)
    return encoder.eval()


def folder_kind(folder: Path) -> Kind:
    """Say what a folder holds: our export, an adapter alone, a sentence-transformers folder, or a plain network.

    Example:
        >>> folder_kind(Path("nothing"))
        'plain'
    """
    if (folder / RECORD).is_file():
        return read_record(folder)["kind"]
    if (folder / MODULES).is_file():
        return "sentence-transformers"
    return "adapter" if (folder / ADAPTER_CONFIG).is_file() else "plain"


def _recorded(backbone: Pretrained, record: dict[str, Any], folder: Path) -> Encoder:
    arguments = {
        "pooling": record["pooling"],
        "head": read_dense(folder / DENSE) if record["head"] else None,
        "normalize": record["normalize"],
        "prompts": record["prompts"],
        "max_length": record["max_length"],
    }
    return Encoder(backbone, **arguments | read_parts(folder, record, backbone))


def _from_layout(folder: Path, attention: Attention) -> Encoder:
    layout = read_layout(folder)
    backbone = _network(folder / layout.network, attention)
    backbone.own_length = layout.max_length  # as sentence-transformers cuts, which does not ask tokenizer.json
    if layout.similarity not in (None, "cosine") and not layout.normalize:
        logger.warning(
            "sentence-transformers compares embeddings of %s by %s; search and evaluation here rank by cosine",
            folder,
            layout.similarity,
        )
    return Encoder(
        backbone,
        pooling=layout.pooling,  # type: ignore[arg-type]  # read_layout lets only known names pass
        head=layout.head,
        normalize=layout.normalize,
        prompts=layout.prompts,
        default_prompt=layout.default_prompt,
    )


def _from_adapter(folder: Path, pooling: PoolingName | None, attention: Attention, given: str | Path | None) -> Encoder:
    if not (folder / RECORD).is_file():
        name = given or _base_name(folder)
        _refuse_merged(locate(name), folder)
        encoder = load_encoder(name, pooling=pooling, attention=attention)
        encoder.backbone.model = load_adapter(encoder.backbone.network, folder)
        return encoder
    record = read_record(folder)
    base = record["base"]
    name = str(given or _base_of(base))
    _refuse_merged(_located(name, folder, was_folder=base.get("folder") is not None), folder)
    backbone = Pretrained(
        name,
        attention=attention,
        dtype=record["dtype"],
        layers=base["layers"],
        bidirectional=base["bidirectional"],
        quantize=base.get("quantize"),
        frozen=base.get("quantize") is not None,
        merge_into=base.get("merge_into", "quantized"),
        learned_tokens=record.get("learned_tokens", 0),
    )
    packed = base.get("quantize") is not None
    if (files_sha256(locate(name)) if packed else base_sha256(backbone.network)) != base["sha256"]:
        raise UsageError(
            f"expected the base {base['name']} that the adapter in {folder} was trained on; the weights of {name} are others. "
            "Bring back the old weights, give base=…, or load the merged model in the folder above."
        )
    backbone.model = load_adapter(backbone.network, folder)
    if any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        backbone.tokenizer = load_tokenizer(folder)
    return _recorded(backbone, record, folder)


def _base_of(base: dict[str, Any]) -> str:
    """Return where an adapter's base is: the folder that it had, if that is still there, else its name."""
    hint = base.get("folder")
    return hint if hint and Path(hint).is_dir() else base["name"]


def _located(name: str, folder: Path, was_folder: bool) -> Path:
    try:
        if was_folder and not Path(name).expanduser().is_dir():  # what the hub has under that name is something else
            raise MissingError(f"expected a folder called {name}; there is none.")
        return locate(name)
    except MissingError as error:
        raise MissingError(
            f"the adapter in {folder} needs its base: {error} Or say where it lies: Encoder.from_pretrained({str(folder)!r}, base=FOLDER); "
            "or load the merged model in the folder above."
        ) from error


def _refuse_merged(base: Path, folder: Path) -> None:
    """Refuse to add an adapter to weights that it has been added to already."""
    if not (base / RECORD).is_file() or not read_record(base).get("merged"):
        return
    inside, own = (path / ADAPTER_WEIGHTS for path in (base / "adapter", folder))
    if inside.is_file() and own.is_file() and inside.read_bytes() == own.read_bytes():
        raise UsageError(
            f"expected the base of the adapter in {folder}; {base} is that base with this very adapter merged into it already. Load "
            f"{base} as it is, or give the base that the adapter was trained on."
        )


def _network(folder: Path, attention: Attention, **options: Any) -> Pretrained:
    """Load the network of a folder, with the adapter on it where the folder holds one in place of whole weights."""
    if (folder / "config.json").is_file() or not (folder / ADAPTER_CONFIG).is_file():
        return Pretrained(str(folder), attention=attention, **options)
    backbone = Pretrained(_base_name(folder), attention=attention, **options)
    backbone.model = load_adapter(backbone.network, folder)
    return backbone


def _base_name(folder: Path) -> str:
    name = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not name:
        raise UsageError(
            f"expected the base model's name in {folder / ADAPTER_CONFIG}; there is none. Set base_model_name_or_path."
        )
    return name
