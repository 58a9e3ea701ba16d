"""The name that a mistyped one was probably meant to be, and the refusal of what is none of a few names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from inbatch.errors import UsageError


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


def require_choice(value: Any, choices: Iterable[str], setting: str) -> None:
    """Refuse a value that is none of a few names.

    Args:
        value: that was given.
        choices: all that there are, as ``typing.get_args`` of a ``Literal`` gives them.
        setting: that takes it, for the message; it is called by the last part of this.

    Raises:
        UsageError: if so; the message names the nearest.

    Example:
        >>> require_choice("logit", ("logits", "cosine"), "objective.sigma_unit")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected sigma_unit to be logits or cosine; got 'logit'. Did you mean logits? Set objective.sigma_unit.
    """
    names = list(choices)
    if value in names:
        return
    said = " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
    hint = suggest(str(value), names) or "."
    raise UsageError(f"expected {setting.rpartition('.')[2]} to be {said}; got {value!r}{hint} Set {setting}.")
