"""One rule for characters that no encoding can write: the halves of surrogate pairs that stand alone."""

from __future__ import annotations

import re

# What `surrogateescape` makes of bytes that are no UTF-8.
_BYTES = re.compile("[\udc80-\udcff]+")
_HALF = re.compile("[\ud800-\udfff]")


def mended(text: str) -> str:
    r"""Return a text that can be written in UTF-8.

    Surrogates come from JSON such as ``"\ud800"``, from other programs' tables, and from bytes of the command line or of a file name
    that Python could not decode. Bytes kept that way are decoded where they are UTF-8 together, two halves of a pair become the
    character that they mean, and each half that is left becomes U+FFFD, the replacement character of Unicode. All other texts are
    returned as they are.

    Example:
        >>> mended("a \ud800 b"), mended("\ud83d\ude00"), mended("caf\udcc3\udca9")
        ('a � b', '😀', 'café')
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return _HALF.sub("\ufffd", _BYTES.sub(_decoded, joined))
    return text


def _decoded(found: re.Match[str]) -> str:
    return found[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
