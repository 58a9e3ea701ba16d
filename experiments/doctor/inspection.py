"""Say what a saved model is (base, adapter or merged), and whether it embeds equally from every form that it lies in."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inbatch.errors import InbatchError, MissingError, UsageError
from inbatch.experiments.doctor.findings import Finding
from inbatch.models.export.sentence_transformers import refuses
from inbatch.models.record import MODULES

if TYPE_CHECKING:
    from torch import Tensor

    from inbatch.models.encoder import Encoder


def inspect_model(name: str) -> Iterator[Finding]:
    """Load a model, say what it is, and compare its forms.

    Args:
        name: a folder, the folder of a run, a hub id, or ``minilm``.

    Raises:
        MissingError: if there is no such model.
        UsageError: if it cannot be loaded; the message says why.

    Example:
        >>> from itertools import islice
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Encoder(TinyRandom(), prompts={"query": "search: "}).save_pretrained("export")
        >>> for finding in islice(inspect_model("export"), 4):  # the others compare it with what it is when it is loaded again
        ...     print(finding.topic, "-", finding.text)
        kind - full model, trained from TinyRandom(kind='bert', seed=0)
        network - BertModel, 41,952 parameters in float32
        vectors - 32 dimensions, normalised, mean pooling, texts of at most 512 tokens
        prompts - query: 'search: '
    """
    from inbatch.models.encoder import Encoder
    from inbatch.models.locate import locate

    folder = locate(name)
    if folder == Path(name).expanduser() / "export":
        yield Finding("run", "ok", f"{name} is the folder of a run; its export is looked at")
    yield Finding("kind", "ok", describe_kind(folder))
    encoder = Encoder.from_pretrained(name)
    yield from _contents(encoder)
    yield _reload(encoder)
    yield from _adapter_beside(encoder, folder)
    yield from _sentence_transformers(encoder, folder)


def describe_kind(folder: Path) -> str:
    """Say what a model folder holds, and on what it stands.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> encoder = Encoder(TinyRandom())
        >>> _ = encoder.save_pretrained("export"), encoder.backbone.network.save_pretrained("network")
        >>> describe_kind(Path("export"))
        "full model, trained from TinyRandom(kind='bert', seed=0)"
        >>> describe_kind(Path("network"))
        'base: a plain network without pooling of its own (network)'
    """
    from inbatch.models.export.load import folder_kind
    from inbatch.models.record import read_record

    kind = folder_kind(folder)
    if kind == "plain":
        return f"base: a plain network without pooling of its own ({folder})"
    if kind == "sentence-transformers":
        return f"base: a sentence-transformers folder ({folder})"
    if not (folder / "inbatch.json").is_file():
        return f"adapter of another program, loaded on the base that it names ({folder})"
    record = read_record(folder)
    base = record["base"]["name"]
    if kind == "adapter":
        return f"adapter alone, trained on {base}"
    return f"merged: an adapter added into {base}" if record["merged"] else f"full model, trained from {base}"


def _contents(encoder: Encoder) -> Iterator[Finding]:
    backbone = encoder.backbone
    parameters = sum(p.numel() for p in encoder.parameters())
    dtype = str(backbone.network.dtype).removeprefix("torch.")
    yield Finding("network", "ok", f"{type(backbone.network).__name__}, {parameters:,} parameters in {dtype}")
    vectors = f"{encoder.dim} dimensions, {'normalised' if encoder.normalize else 'not normalised'}"
    yield Finding(
        "vectors", "ok", f"{vectors}, {encoder.pooling} pooling, texts of at most {encoder.max_length} tokens"
    )
    if given := {name: text for name, text in encoder.prompts.items() if text}:
        yield Finding("prompts", "ok", ", ".join(f"{name}: {text!r}" for name, text in given.items()))


def _reload(encoder: Encoder) -> Finding:
    """Export to a temporary folder, which reloads and compares."""
    from inbatch.models.export.write import TOLERANCE

    need = sum(p.nbytes for p in encoder.parameters())
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 3 * need:  # merged, adapter and what lies between
        text = f"not tried: {free / 2**30:.1f} GiB free in {tempfile.gettempdir()}, the model has {need / 2**30:.1f}"
        return Finding("reload", "note", text, "set TMPDIR to a folder with more space")
    logger = logging.getLogger("inbatch.models.export.write")
    with tempfile.TemporaryDirectory() as scratch:
        level = logger.level
        logger.setLevel(logging.ERROR)  # that an adapter has no effect is a finding here
        try:
            done = encoder.save_pretrained(Path(scratch) / "export")
        except InbatchError as error:
            return Finding("reload", "wrong", str(error))
        finally:
            logger.setLevel(level)
    if done.adapter_effect is not None and done.adapter_effect <= TOLERANCE:
        text = f"the adapter changes embeddings by {done.adapter_effect:.0e} only: the model equals its base"
        return Finding("reload", "wrong", text, "train it, or load the adapter of the right run")
    effect = "" if done.adapter_effect is None else f"; the adapter changes embeddings by {done.adapter_effect:.2f}"
    return Finding(
        "reload", "ok", f"saved and loaded again it embeds equally (difference {done.difference:.0e}){effect}"
    )


def _adapter_beside(encoder: Encoder, folder: Path) -> Iterator[Finding]:
    """Compare a merged model with the adapter that it was exported with."""
    from inbatch.models.encoder import Encoder
    from inbatch.models.export.write import probe

    adapter = folder / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        return
    try:
        other = Encoder.from_pretrained(adapter)
    except MissingError as error:
        yield Finding("adapter", "note", f"not compared with the merged model, its base is not here: {error}")
        return
    except UsageError as error:
        yield Finding("adapter", "wrong", str(error))
        return
    yield _compared("adapter", "the adapter on its base", encoder, probe(other))


def _sentence_transformers(encoder: Encoder, folder: Path) -> Iterator[Finding]:
    """Compare with what sentence-transformers makes of the folder, where both are there."""
    if not (folder / MODULES).is_file():
        text = "no modules.json: sentence-transformers would load other pooling than this, or nothing"
        yield Finding("exchange", "note", text, "use inbatch to load it, or export it anew")
        return
    if refuses(folder):
        text = "sentence-transformers cannot express this model and refuses to load it"
        yield Finding("exchange", "note", text, "the model card says why; use inbatch to load it")
        return
    if importlib.util.find_spec("sentence_transformers") is None:
        yield Finding(
            "exchange",
            "note",
            "not compared: sentence-transformers is not installed",
            "pip install sentence-transformers",
        )
        return
    from sentence_transformers import SentenceTransformer

    from inbatch.models.export.write import PROBES
    from inbatch.models.huggingface import quiet

    with quiet():  # it reports the pooler, which it does not use, as newly initialised
        theirs = SentenceTransformer(str(folder), device="cpu").encode(list(PROBES), convert_to_tensor=True)
    yield _compared("exchange", "sentence-transformers", encoder, theirs.float().cpu())


def _compared(topic: str, what: str, encoder: Encoder, theirs: Tensor) -> Finding:
    from inbatch.models.export.write import MERGED_HALF_TOLERANCE, TOLERANCE, probe

    ours = probe(encoder)
    if ours.shape != theirs.shape:
        text = f"{what} gives vectors of {theirs.shape[1]} dimensions, expected {ours.shape[1]}"
        return Finding(topic, "wrong", text, "export the model again")
    difference = float(((ours - theirs).abs() / ours.norm(dim=1, keepdim=True)).max())
    # Weights that were rounded to half precision when an adapter was added to them cannot agree further.
    tolerance = TOLERANCE if encoder.backbone.network.dtype.itemsize >= 4 else MERGED_HALF_TOLERANCE
    if difference <= tolerance:
        return Finding(topic, "ok", f"{what} embeds equally (difference {difference:.0e})")
    return Finding(topic, "wrong", f"{what} embeds otherwise (difference {difference:.0e})", "export the model again")
