"""The name that a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(wrong: str, names: Iterable[str]) -> str:
    """Return ``". Did you mean X?"`` for the nearest of ``names``, or ``""`` if none is near.

    Example:
        >>> suggest("temprature", ["temperature", "scale"]), suggest("margin", ["temperature", "scale"])
        ('. Did you mean temperature?', '')
    """
    near = nearest(wrong, names)
    return f". Did you mean {near}?" if near else ""


def nearest(wrong: str, names: Iterable[str]) -> str:
    """Return the name that ``wrong`` was probably meant to be, or ``""`` if none is near.

    Example:
        >>> nearest("temprature", ["temperature", "scale"]), nearest("margin", ["temperature", "scale"])
        ('temperature', '')
    """
    return next(iter(difflib.get_close_matches(wrong, list(names), n=1, cutoff=0.6)), "")
