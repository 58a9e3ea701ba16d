"""Public names of a package, imported when they are used."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from inbatch.class_names import classes


def exports(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """Return ``__getattr__`` and ``__all__`` of a package that imports its public names under ``TYPE_CHECKING`` only.

    These imports are the list that a person and a type checker read; here each is done when its name is first asked for. So importing
    one module of a package costs no other, and packages may name what stands on them. A class of one of its files need not be listed: it
    is found by its name, as in configurations, but not by a type checker.

    Args:
        package: its ``__name__``.
        file: its ``__file__``.

    Example:
        >>> from inbatch.kernels import info_nce
        >>> info_nce.__module__
        'inbatch.kernels.infonce.operators'
        >>> from inbatch.losses import SigLIP
        >>> SigLIP.__module__
        'inbatch.losses.contrastive.siglip'
    """
    blocks = [node for node in ast.parse(Path(file).read_text("utf8")).body if isinstance(node, ast.If)]
    homes = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name in homes:
            module, attribute = homes[name]
            return getattr(import_module(module), attribute)
        inside = (
            [path for path in classes().get(name, []) if path.startswith(f"{package}.")] if name[:1].isupper() else []
        )
        if len(inside) != 1:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(inside[0].rpartition(".")[0]), name)

    return get, sorted(homes)
