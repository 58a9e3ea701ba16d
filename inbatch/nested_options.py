"""Options inside of classes (``--a.init_args.b.init_args.c=VALUE``) keep their values on the way through the parser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml


def keep_values(arguments: Sequence[str]) -> list[str]:
    """Hand over as configurations what the parser would change on the command line.

    It writes the value of a nested option as Python does and reads it as YAML, level by level: null becomes the text ``None``, also
    inside of lists and mappings, and a line break two characters. A configuration, in the place of the option, is read once.

    Args:
        arguments: of the command line.

    Returns:
        The arguments, with ``--config={"a": {…: VALUE}}`` in the place of each such option.
    """
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        option, equals, text = word.partition("=")
        given = [word]
        if option.startswith("--") and ".init_args." in option and not option.endswith("+"):
            if not equals:
                text = next(rest, None)
                given += [] if text is None else [text]
            if text is not None and _changes(value := _parsed(text)):
                for key in reversed(option.removeprefix("--").split(".")):
                    value = {key: value}
                given = [f"--config={json.dumps(value)}"]
        words += given
    return words


def _changes(value: Any) -> bool:
    """Say whether a value is another one after the parser has written and read it."""
    try:
        return yaml.safe_load(str(value)) != value
    except yaml.YAMLError:
        return True


def _parsed(text: str) -> Any:
    try:
        found = yaml.safe_load(text)
        json.dumps(found)  # what YAML knows and JSON does not, such as dates, stays what was typed
    except (yaml.YAMLError, TypeError):
        return text
    return found
