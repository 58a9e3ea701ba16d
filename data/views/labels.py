"""Labels of rows as numbers: classes, clusters, languages."""

from __future__ import annotations

import re

from inbatch.text.ids import text_id

_INTEGER = re.compile(r"(0|[1-9]\d*)(\.0*)?")
_NUMBER = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE])|(?<=[-+])\d+)([eE][-+]?\d+)?")


def label_id(label: str | float) -> int:
    """Return the id of a label: an integer from 0 as it is, and of any other word its 63-bit hash, `inbatch.text.ids.text_id`.

    Equal to ``int(label)`` or ``text_id(label.strip())``. Integers may be written as texts, and with a point, as tables with missing cells write
    them: 3, "3" and "3.0" are one label. Ids are never negative, as -1 is the wildcard of `inbatch.kernels.info_nce`. Digits behind a
    leading 0 are a word, as in postal codes.

    Args:
        label: a word or a number.

    Returns:
        An int in [0, 2^63).

    Raises:
        ValueError: if it is blank, a negative number or a fraction.

    Example:
        >>> label_id("3"), label_id(3.0), label_id("entailment") == label_id("entailment")
        (3, 3, True)
    """
    word = label.strip() if isinstance(label, str) else repr(label)
    if (match := _INTEGER.fullmatch(word)) and int(match[1]) < 1 << 63:
        return int(match[1])
    if not word or _NUMBER.fullmatch(word) or not isinstance(label, str):
        raise ValueError(f"expected a word or an integer of at least 0; got {word!r}")
    return text_id(word)
