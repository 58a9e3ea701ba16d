"""Data sets of the library `datasets`: folders that it saved, and those of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from inbatch.errors import MissingError, UsageError
from inbatch.hub import offline_if_unreachable

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hf://datasets/"


def open_saved(path: Path, split: str | None) -> Dataset:
    """Open a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` has written.

    Raises:
        UsageError: if it is none, or has no such split.

    Example:
        >>> from datasets import Dataset, DatasetDict
        >>> drinks = {"train": Dataset.from_dict({"drink": ["tea"]}), "test": Dataset.from_dict({"drink": ["milk"]})}
        >>> DatasetDict(drinks).save_to_disk("drinks")
        >>> open_saved(Path("drinks"), None)[0], open_saved(Path("drinks"), "test")[0]
        ({'drink': 'tea'}, {'drink': 'milk'})
    """
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
    except (FileNotFoundError, ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"{path}: expected a folder written by Dataset.save_to_disk; {str(error).splitlines()[0]}. To read a file in the "
            "folder, name the file."
        ) from None
    if not isinstance(found, DatasetDict):
        if split is not None:
            raise UsageError(f"{path}: holds one table without splits. Remove split = {split} of the source.")
        return found
    split = split or "train"
    if split not in found:
        raise UsageError(
            f"{path}: there is no split {split}; the splits are {', '.join(map(str, found))}. Set split of the source."
        )
    return found[split]


def open_hub(name: str, subset: str | None, split: str | None) -> Dataset:
    """Fetch a data set of the hub, or take it from this machine's cache.

    Raises:
        MissingError: if it is neither; the message names the command that fetches it.
        UsageError: if it has no such subset or split.

    Example:
        >>> from unittest.mock import patch
        >>> offline = patch("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        >>> with offline, patch("datasets.load_dataset", side_effect=OSError("no network")):
        ...     open_hub("shop/questions", None, "train")
        Traceback (most recent call last):
        inbatch.errors.MissingError: shop/questions is neither a file or folder here nor a data set that can be fetched now
        (OSError: no network). Where there is a network, fetch it with:
        python -c "from datasets import load_dataset; load_dataset('shop/questions')"
    """
    from datasets import load_dataset

    split = split or "train"
    arguments = [repr(name), *([repr(subset)] if subset else [])]
    command = f'python -c "from datasets import load_dataset; load_dataset({", ".join(arguments)})"'
    try:
        with offline_if_unreachable():
            return load_dataset(name, subset, split=split)
    except ValueError as error:  # an unknown subset or split; the message lists those that there are
        raise UsageError(f"{name}: {' '.join(str(error).split())[:300]}. Set split and subset of the source.") from None
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"{name} is neither a file or folder here nor a data set that can be fetched now ({_first_line(error)}). "
            f"Where there is a network, fetch it with: {command}"
        ) from error


def fetch_file(address: str) -> Path:
    """Fetch one file of a data set of the hub, ``hf://datasets/OWNER/NAME/FILE``.

    Raises:
        MissingError: if it is neither there nor on this machine; the message names the command that fetches it.
        UsageError: if the address is no such thing.

    Example:
        >>> fetch_file("hf://datasets/shop/questions")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected hf://datasets/OWNER/NAME/FILE; got hf://datasets/shop/questions.
        A whole data set is written OWNER/NAME.
    """
    from huggingface_hub import hf_hub_download

    parts = address.removeprefix(HUB).split("/")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    if len(parts) < 3 or not all(parts):
        raise UsageError(f"expected {HUB}OWNER/NAME/FILE; got {address}. A whole data set is written OWNER/NAME.")
    try:
        with offline_if_unreachable():
            return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise MissingError(
            f"{file} of the data set {repository} is not on this machine and cannot be fetched now ({_first_line(error)}). "
            f"Where there is a network, fetch it with: hf download --repo-type dataset {repository} {file}"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
