"""What mends an error, said as the option that can be typed in this run: ``--model.objective.init_args.temperature``."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jsonargparse import Namespace

from inbatch.data.sources.sources import Source
from inbatch.errors import InbatchError
from inbatch.run.parser_errors import with_arguments

_VERBS = "set|raise|lower|leave|give|look|check|choose|drop|use|keep|name|put|add|install"
# In a sentence these may be other words, so only at the beginning of a clause, or before a setting.
_REMEDY = re.compile(
    rf"\b(?:{_VERBS.title()})\b|(?:[.;:,?] |\b(?:and|or|then) )(?:{_VERBS})\b|\b(?:{_VERBS}) (?=[a-z_]+\.[a-z_])"
)
# A value is one word, a number or a mapping; after `to a file of your own` and the like there is none.
_VALUE = r"[A-Za-z][\w-]*(?:\.\w+)*(?=[.,;)]|$| or | and )|-?\d+(?:\.\d+)?|\{[^{}']*\}"
_NAME = re.compile(
    rf"(?<![\w./-])(?P<owner>[a-z_]+)(?P<keys>(?:\.[a-z_]+)+(?:'s [a-z_]+)?)(?!\w|\.\w)(?: to (?P<value>{_VALUE}))?"
)
# Such as seed_everything; a name of one word, such as monitor, is a word of the language elsewhere.
_TOP = re.compile(rf"(?<![\w./-])(?:(?<=[Ss]et )[a-z]+|[a-z]+(?:_[a-z]+)+)(?!\w|\.\w|[:=])(?: to (?P<value>{_VALUE}))?")
_SETTING = r"[a-z_.]+(?:: (?:\w+|\{[^{}]*\}))?"
_OF_SOURCE = re.compile(
    rf"(?<!the )(?<!a )(?<![\w.-])(?P<settings>{_SETTING}(?:(?:,|,? and|,? or) {_SETTING})*) (?:of|on) (?:(?:the|its) source|data\.sources)\b"
)
_FIELDS = {field.name for field in dataclasses.fields(Source)}


@contextmanager
def said_as_typed(config: Any, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Let an error name options, and commands that take the same arguments, as they are typed in this run.

    Args:
        config: of the run, as parsed.
        arguments: of the run.

    Raises:
        InbatchError: the one that was raised inside, in these words.

    Example:
        >>> with said_as_typed({"data": {"batch_size": 1}}):
        ...     raise InbatchError("expected more rows. Raise data.batch_size.")
        Traceback (most recent call last):
        inbatch.errors.InbatchError: expected more rows. Raise --data.batch_size.
    """
    try:
        yield
    except InbatchError as error:
        said = str(with_arguments(error, arguments))
        if (words := typed(said, config)) != said:
            error.args = (words,)
        raise


def typed(message: str, config: Any) -> str:
    """Replace the settings that a message asks for by the options of a run; what does not lead anywhere in it stays.

    Args:
        message: says what to set relative to its owner, since classes are also used without a configuration. Only its remedy is
            changed: what stands behind the first ``Set``, ``Raise`` and the like.
        config: of the run, as parsed.

    Returns:
        The message. Where several parts of the run could be meant, an option leads to the one whose class the message names, else to
        the one whose value it says, else to the first.

    Example:
        >>> objective = {"class_path": "InfoNCE", "init_args": {"temperature": 0.0, "projector": None}}
        >>> typed("got 0.0. Set objective.temperature, e.g. 0.05.", {"model": {"objective": objective}})
        'got 0.0. Set --model.objective.init_args.temperature, e.g. 0.05.'
        >>> typed("Set objective.projector to null.", {"model": {"objective": objective}})
        'Set --model.objective.init_args.projector=null.'
    """
    found = _REMEDY.search(message)
    if found is None:
        return message
    said, remedy = message[: found.start()], message[found.start() :]
    source = _source_option(message, config)
    if source is not None:
        remedy = _OF_SOURCE.sub(lambda match: _settings_of_source(match, source), remedy)
    wanted: dict[str, list[list[str]]] = {}
    for match in _NAME.finditer(remedy):
        wanted.setdefault(match["owner"], []).append(_keys(match))
    chosen = {name: _choose(name, keys, said, config) for name, keys in wanted.items()}

    def option(match: re.Match[str]) -> str:
        keys = _keys(match)
        path = [match["owner"], *keys]
        if path[:2] == ["data", "sources"] and path[2:]:
            path = path[2:] if path[2] in _FIELDS else path
        if path[0] in _FIELDS:
            return match[0] if source is None else _option(f"{source}{'.'.join(path)}", match["value"])
        owner = chosen[match["owner"]]
        reached = None if owner is None else _follow(*owner, keys)
        return match[0] if reached is None else _option(reached[0], match["value"])

    def option_at_top(match: re.Match[str]) -> str:
        name = match[0].split()[0]
        there = name in _inside(config) and not _inside(_at(config, name))  # sections have options of their own
        return _option(name, match["value"]) if there else match[0]

    remedy = _TOP.sub(option_at_top, _NAME.sub(option, remedy))
    path = _at(config, "data", "sources")
    if isinstance(path, str) and "--data.sources.path=" not in remedy:
        # The parser asks for the file where a setting of it is typed.
        given = f"--data.sources.path={shlex.quote(path)}"
        remedy = re.sub(r"'?--data\.sources\.", lambda match: f"{given} {match[0]}", remedy, count=1)
    return said + remedy


def _keys(match: re.Match[str]) -> list[str]:
    return match["keys"].replace("'s ", ".").strip(".").split(".")


def _option(path: str, value: str | None) -> str:
    option = f"--{path}" if value is None else f"--{path}={value}"
    return f"'{option}'" if " " in option else option


def _settings_of_source(match: re.Match[str], source: str) -> str:
    """Turn ``view: pair and header: true on the source`` into options; whole, or not at all if nothing in it is a source's."""
    some = False

    def setting(part: re.Match[str]) -> str:
        nonlocal some
        name, _, value = part[0].partition(": ")
        if name.split(".")[0] not in _FIELDS:
            return part[0]
        some = True
        return _option(f"{source}{name}", value or None)

    said = re.sub(rf"(?!(?:and|or) ){_SETTING}", setting, match["settings"])
    return said if some else match[0]


def _source_option(message: str, config: Any) -> str | None:
    """Return how options of the run's only source begin; None if it has several, or the message is of a file of an evaluator."""
    sources = _at(config, "data", "sources")
    if sources is None or isinstance(sources, list | tuple):
        return None
    files = [text for text in _texts(_at(config, "evaluators")) if "." in text or "/" in text]
    return None if any(text in message for text in files) else "data.sources."


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts in settings, but no names of classes."""
    if isinstance(node, str):
        yield node
    for name, child in _inside(node).items():
        if name != "class_path":
            yield from _texts(child)


def _inside(node: Any) -> Mapping[str, Any]:
    return vars(node) if isinstance(node, Namespace) else node if isinstance(node, Mapping) else {}


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = _inside(node).get(key)
    return node


def _follow(path: str, node: Any, keys: Sequence[str]) -> tuple[str, Any] | None:
    """Go down from a node, into the settings of classes; return the option that ends there and its value, None if there is none."""
    for key in keys:
        inside = _inside(node)
        if "class_path" in inside and key != "init_args":
            path, inside = f"{path}.init_args", _inside(inside.get("init_args"))
        if key not in inside:
            return None
        path, node = f"{path}.{key}", inside[key]
    return path, node


def _choose(name: str, wanted: Sequence[Sequence[str]], said: str, config: Any) -> tuple[str, Any] | None:
    """Return where the owner that a message means stands in a configuration, and its settings."""
    got = said.partition("got ")[2]

    def fits(owner: tuple[str, Any]) -> tuple[int, bool, bool]:
        reached = [found for keys in wanted if (found := _follow(*owner, keys)) is not None]
        kind = str(_inside(owner[1]).get("class_path", "")).rpartition(".")[2]
        return (
            len(reached),
            bool(kind) and _says(said, kind),
            any(_says(got, value) for _, value in reached if value is not None),
        )

    return max(_owners(name, config), key=fits, default=None)  # the first of equals


def _says(message: str, value: Any) -> bool:
    """Say whether a message has a value, which the parser leaves a whole number where the class makes a fraction of it."""
    words = {str(value), str(float(value))} if type(value) is int else {str(value)}
    return any(re.search(rf"(?<![\w.]){re.escape(word)}(?!\w|\.\w)", message) for word in words)


def _owners(name: str, config: Any) -> Iterator[tuple[str, Any]]:
    """Yield what stands under a name, the outermost first; the terms of an objective are objectives, too."""
    level = [("", "", config)]
    while level:
        below = []
        for path, parent, node in level:
            inside = _inside(node)
            if "class_path" in inside:
                path, inside = f"{path}.init_args", _inside(inside.get("init_args"))
            for key, child in inside.items():
                here = f"{path}.{key}".strip(".")
                if _inside(child):
                    if key == name or (name == "objective" and parent == "terms"):
                        yield here, child
                    below.append((here, key, child))
        level = below
