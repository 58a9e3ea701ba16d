"""What cannot be decided about a data file: refused with the lines that decide it, ready to be typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from inbatch.errors import UsageError

_ELSEWHERE = "evaluate, search and encode take the braces and what is in them as their source"

# What a file may mean, and the settings of its source that say so.
Meaning = tuple[str, dict[str, Any]]


class Doubt(UsageError):
    """A file, or its columns, that may be meant in several ways.

    Args:
        where: the source's path.
        why: what was seen, a sentence without its full stop.
        meanings: each a condition, such as ``if this is meant``, and the settings of the source to add.
        given: settings of the source that are set already.

    Example:
        >>> print(Doubt("menu.csv", "quotes may be text", [("if they are text", {"quotes": "text"})], {"delimiter": "tab"}))
        menu.csv: quotes may be text. In inbatch fit (evaluate, search and encode take the braces and what is in them as their source),
        if they are text: '--data.sources={path: menu.csv, delimiter: tab, quotes: text}'
    """

    def __init__(
        self, where: str, why: str, meanings: Sequence[Meaning], given: Mapping[str, Any] | None = None
    ) -> None:
        self.where, self.why, self.meanings = where, why, list(meanings)
        lines = [f"{meaning}: {as_option(where, **{**(given or {}), **more})}" for meaning, more in meanings]
        super().__init__(f"{where}: {why}. In inbatch fit ({_ELSEWHERE}), {'; '.join(lines)}")


def as_option(path: str, **settings: Any) -> str:
    """Write a source with its settings as the option of ``inbatch fit``, quoted for a shell.

    The part in braces is what ``inbatch evaluate``, ``search`` and ``encode`` take as their source.

    Example:
        >>> print(as_option("menu.csv", delimiter="tab", columns={"anchor": "drink"}))
        '--data.sources={path: menu.csv, delimiter: tab, columns: {anchor: drink}}'
    """
    return shlex.quote(f"--data.sources={as_yaml({'path': path, **settings})}")


def as_yaml(value: Mapping[str, Any]) -> str:
    """Write a mapping in one line of YAML.

    Example:
        >>> as_yaml({"anchor": "question", "negatives": ["neg_1", "neg_2"], "header": True})
        '{anchor: question, negatives: [neg_1, neg_2], header: true}'
    """
    return yaml.safe_dump(
        dict(value), default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    ).strip()
