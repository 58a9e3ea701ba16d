"""Options inside of classes (``--a.init_args.b.init_args.c=VALUE``) keep their values on the way through the parser."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import Namespace

from inbatch.errors import UsageError
from inbatch.run.parser_errors import resolve


def keep_values(arguments: Sequence[str]) -> list[str]:
    """Hand over as configurations what the parser would change on the command line.

    It writes the value of a nested option as Python does and reads it as YAML, level by level: null becomes the text ``None``, also
    inside of lists and mappings, and a line break two characters. A configuration, in the place of the option, is read once.

    Args:
        arguments: of the command line.

    Returns:
        The arguments, with ``--config={"a": {…: VALUE}}`` in the place of each such option.

    Example:
        >>> keep_values(["--model.objective.init_args.projector=null", "--data.batch_size=64"])
        ['--config={"model": {"objective": {"init_args": {"projector": null}}}}', '--data.batch_size=64']
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
    """Read YAML; what is none, or holds what JSON has not, such as dates, is 0, which needs no help."""
    try:
        found = yaml.safe_load(text)
        json.dumps(found)
    except (yaml.YAMLError, TypeError):
        return 0
    return found


def refuse_nulls(config: Any, prefix: str = "") -> None:
    """Refuse null where a class says that it takes none: the parser lets it pass, and what takes it for false is silently another.

    Args:
        config: as parsed; classes in it are namespaces of ``class_path`` and ``init_args``.
        prefix: where it stands in the whole.

    Raises:
        UsageError: naming the option.

    Example:
        >>> infonce = {"class_path": "inbatch.losses.contrastive.infonce.InfoNCE", "init_args": {"temperature": None}}
        >>> refuse_nulls({"model": {"objective": infonce}})
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a value; got null. Set model.objective.init_args.temperature, or leave it out.
    """
    if isinstance(config, list | tuple):
        for number, item in enumerate(config):
            refuse_nulls(item, f"{prefix}{number}.")
        return
    if not isinstance(config, Mapping | Namespace):
        return
    found = dict(config.items() if isinstance(config, Mapping) else vars(config))
    for name in _without_null(found.get("class_path")) if "init_args" in found else ():
        settings = found["init_args"]
        if settings is not None and name in settings and settings[name] is None:
            raise UsageError(f"expected a value; got null. Set {prefix}init_args.{name}, or leave it out.")
    for name, value in found.items():
        refuse_nulls(value, f"{prefix}{name}.")


def _without_null(path: Any) -> list[str]:
    """Return the parameters of a class that are neither said to take null nor null by default."""
    owner = resolve(path) if isinstance(path, str) else None
    if not isinstance(owner, type):
        return []
    try:
        parameters, hints = inspect.signature(owner).parameters, get_type_hints(owner.__init__)
    except (NameError, TypeError, ValueError):  # annotations that cannot be read here
        return []
    return [
        name
        for name, parameter in parameters.items()
        if parameter.default is not None and name in hints and not _takes_null(hints[name])
    ]


def _takes_null(hint: Any) -> bool:
    return hint is Any or hint is type(None) or type(None) in get_args(hint)
