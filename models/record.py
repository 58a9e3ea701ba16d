"""What a saved model's folder says of itself: our record, the settings of sentence-transformers, and the weights of single parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inbatch.errors import MissingError, UsageError

if TYPE_CHECKING:
    from torch import nn

MODULES = "modules.json"
RECORD = "inbatch.json"
FORMAT = 1


def read_record(folder: Path) -> dict[str, Any]:
    """Read our own description of an export.

    Raises:
        UsageError: if it is of a later format than this version of inbatch knows.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / RECORD, {"format": FORMAT, "pooling": "cls"})
        ...     read_record(Path(folder))["pooling"]
        'cls'
    """
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise UsageError(
            f"expected format {FORMAT} in {folder / RECORD}; got {found!r}. Upgrade inbatch, or export again."
        )
    return record


def sentence_settings(network: Path) -> dict[str, Any]:
    """Read what a Transformer module says of itself, in the folder of its network; empty where it says nothing.

    Example:
        >>> sentence_settings(Path("nothing"))
        {}
    """
    for path in sorted(network.glob("sentence_*_config.json")):
        return read_json(path)
    return {}


def max_seq_length(settings: dict[str, Any]) -> int | None:
    """Return the tokens that a Transformer module keeps of a text; None for what its tokenizer allows.

    An argument of the tokenizer wins, as it does in sentence-transformers.

    Example:
        >>> max_seq_length({"max_seq_length": 128})
        128
    """
    given = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    return given.get("model_max_length") or settings.get("max_seq_length")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MissingError: if it is not there.
        UsageError: if it is no JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "a.json", [1])
        ...     read_json(Path(folder) / "a.json")
        [1]
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingError(
            f"expected {path}; it is not there. Fetch the whole model with `hf download NAME`."
        ) from error
    except ValueError as error:
        raise UsageError(f"expected JSON in {path}; {error}. Fetch or export the model again.") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder) / "a.json", {"a": "é"})
        ...     "é" in (Path(folder) / "a.json").read_text(encoding="utf-8")
        True
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def load_module(module: nn.Module, path: Path) -> None:
    """Load the weights of a part, in their own dtype.

    Raises:
        MissingError: if the file is not there.

    Example:
        >>> import tempfile, torch
        >>> from inbatch.models.adapters.modifier import save_module
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_module(torch.nn.Linear(1, 1), Path(folder) / "a.safetensors")
        ...     load_module(torch.nn.Linear(1, 1), Path(folder) / "a.safetensors")
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingError(f"expected {path}; it is not there. Export the model again, or fetch all of it.")
    state = load_file(path)
    module.to(next(iter(state.values())).dtype).load_state_dict(state)
