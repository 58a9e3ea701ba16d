"""Tell columns of identifiers from texts and scores, by their names and first cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from inbatch.data.formats.delimited import is_number

# Sure: left out without being asked. Maybe: nobody can tell from the first rows.
Likeness = Literal["ids", "maybe ids"]

# pandas calls a column without a name `Unnamed: 0`; Arrow tables made from pandas have `__index_level_0__`.
_NAME = re.compile(
    r"|unnamed: \d+|level_\d+|__index_level_\d+__|_?(.+[_ -])?(id|ids|idx|index|uuid|guid)|(q|p|d|c|s|doc|row)id",
    re.IGNORECASE,
)
_CAMEL = re.compile(r".*[a-z](Id|ID)")
_INTEGER = re.compile(r"[+-]?\d+")
_UNIQUE = re.compile(r"\{?[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\}?|(?=.*\d)[0-9a-f]{16,}", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]+")
_ENOUGH = 8
_NEARLY = 0.95


def likeness(name: str, cells: Sequence[Any]) -> Likeness | None:
    """Say whether a column holds identifiers.

    Identifiers are UUIDs and long hexadecimal numbers; any whole numbers where the name says so (``id``, ``doc_id``, ``index``, no name at
    all), and words without blanks where there is such a name; and, from eight rows on, whole numbers that count up or are large and all different, and words with
    digits that are nearly all different. Fewer rows, other whole numbers that are all different, and words without digits that are: maybe.

    Args:
        name: of the column; empty or as pandas writes it where it has none.
        cells: of the first rows.

    Returns:
        ``ids``, ``maybe ids``, or None for what is none: numbers with repetitions or decimals, and texts.

    Example:
        >>> likeness("doc_id", [17, 4]), likeness("votes", [17, 4]), likeness("votes", [4, 4])
        ('ids', 'maybe ids', None)
    """
    filled = [cell for cell in cells if cell is not None and str(cell).strip()]
    if not filled:
        return "ids" if is_nameless(name) else None
    if any(isinstance(cell, (bool, list, dict)) for cell in filled):
        return None
    words = [str(cell).strip() for cell in filled]
    named = bool(_NAME.fullmatch(name.strip()) or _CAMEL.fullmatch(name.strip()))
    different = len(set(words)) >= _NEARLY * len(words)
    if all(_INTEGER.fullmatch(word) for word in words):
        numbers = [int(word) for word in words]
        if named:
            return "ids"
        if len(set(numbers)) < len(numbers):
            return None
        counts = all(after - before == 1 for before, after in pairwise(numbers))
        return "ids" if len(numbers) >= _ENOUGH and (counts or max(map(abs, numbers)) > 1000) else "maybe ids"
    if not all(_TOKEN.fullmatch(word) for word in words) or all(is_number(word) for word in words):
        return None
    if (named and not is_nameless(name)) or all(_UNIQUE.fullmatch(word) for word in words):
        return "ids"
    if not different:
        return None
    coded = sum(any(c.isdigit() for c in word) for word in words) >= _NEARLY * len(words)
    return "ids" if coded and len(words) >= _ENOUGH else "maybe ids"


def find_ids(columns: Mapping[str, Sequence[Any]]) -> dict[str, Likeness]:
    """Return the columns, out of the first cells of each, that hold identifiers or may.

    Example:
        >>> find_ids({"doc_id": [17, 4], "question": ["Do you ship?", "When are you open?"], "votes": [4, 4]})
        {'doc_id': 'ids'}
    """
    found: dict[str, Likeness] = {}
    for name, cells in columns.items():
        alike = likeness(name, cells)
        if alike is not None:
            found[name] = alike
    return found


def is_nameless(name: str) -> bool:
    """Whether a column has no name, or the one that pandas gives to such columns.

    Example:
        >>> is_nameless(""), is_nameless("Unnamed: 0"), is_nameless("doc_id")
        (True, True, False)
    """
    return bool(re.fullmatch(r"|Unnamed: \d+", name.strip()))
