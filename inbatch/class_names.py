"""Short names of classes in configurations: ``class_path: InfoNCE`` in the place of the module that holds it today."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from inbatch.errors import UsageError
from inbatch.spelling import suggest

_CLASS = re.compile(r"^class ([A-Z]\w*)", re.MULTILINE)
_WORD = re.compile(r"[A-Z]\w*")


@cache
def classes() -> dict[str, list[str]]:
    """Return the dotted paths of the package's classes by name, read from the sources: nothing is imported.

    Example:
        >>> classes()["InfoNCE"]
        ['inbatch.losses.contrastive.infonce.InfoNCE']
    """
    root = Path(__file__).parent
    found: dict[str, list[str]] = {}
    for path in _sources(root):
        module = ".".join(("inbatch", *path.relative_to(root).with_suffix("").parts))
        for name in _CLASS.findall(path.read_text("utf8")):
            found.setdefault(name, []).append(f"{module}.{name}")
    return found


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__":
            yield from _sources(path)  # also through the links of a checkout
        elif path.suffix == ".py":
            yield path


def dotted(name: str) -> str:
    """Return the path of the class that a name means; other names, and paths, are returned as they are.

    Raises:
        UsageError: if two classes have the name, or a path is one of the package where no such class is any more.

    Example:
        >>> dotted("InfoNCE")
        'inbatch.losses.contrastive.infonce.InfoNCE'
    """
    last = name.rpartition(".")[2]
    known = classes().get(last, [])
    if "." not in name:
        if len(known) > 1:
            raise UsageError(f"two classes are called {name}: {' and '.join(known)}. Write the one that is meant.")
        return known[0] if known else name
    if name.startswith("inbatch.") and name not in known and known and not _is_there(name):
        raise UsageError(f"there is no class {name}: it is {known[0]} now. Write class_path: {last}.")
    return name


def _is_there(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def short(path: str) -> str:
    """Return the name of a class of this package, which stays when the class moves; other paths as they are.

    Example:
        >>> short("inbatch.losses.contrastive.infonce.InfoNCE"), short("torch.optim.AdamW")
        ('InfoNCE', 'torch.optim.AdamW')
    """
    last = path.rpartition(".")[2]
    return last if path.startswith("inbatch.") and len(classes().get(last, [])) == 1 else path


def expanded(value: Any) -> Any:
    """Return settings in which each ``class_path`` is a dotted one, and import the classes that stand by their names alone.

    Raises:
        UsageError: as in `dotted`.

    Example:
        >>> expanded({"objective": {"class_path": "InfoNCE", "init_args": {"temperature": 0.02}}})
        {'objective': {'class_path': 'inbatch.losses.contrastive.infonce.InfoNCE', 'init_args': {'temperature': 0.02}}}
    """
    if isinstance(value, Mapping):
        found = {key: expanded(item) for key, item in value.items()}
        if isinstance(path := value.get("class_path"), str):
            found["class_path"] = dotted(path)
        return found
    if isinstance(value, list):
        return [expanded(item) for item in value]
    if isinstance(value, str):
        know(value)
    return value


def know(word: str) -> None:
    """Import the class that a word is the name of, so that the parser knows it by that name: ``--model.objective=InfoNCE``.

    Example:
        >>> import sys
        >>> know("InfoNCE")
        >>> "inbatch.losses.contrastive.infonce" in sys.modules
        True
    """
    if _WORD.fullmatch(word) and len(known := classes().get(word, [])) == 1:
        import_module(known[0].rpartition(".")[0])


def shortened(value: Any) -> Any:
    """Return settings in which the classes of this package stand by their names.

    Example:
        >>> shortened({"class_path": "inbatch.losses.contrastive.infonce.InfoNCE", "init_args": {"temperature": 0.02}})
        {'class_path': 'InfoNCE', 'init_args': {'temperature': 0.02}}
    """
    if isinstance(value, Mapping):
        return {
            key: short(item) if key == "class_path" and isinstance(item, str) else shortened(item)
            for key, item in value.items()
        }
    return [shortened(item) for item in value] if isinstance(value, list) else value


def near(name: str) -> str:
    """Return ``". Did you mean X?"`` for a class name that is near, or nothing.

    Example:
        >>> near("InfoNEC"), near("Zebra")
        ('. Did you mean InfoNCE?', '')
    """
    return suggest(name, classes())
