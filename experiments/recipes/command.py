"""``inbatch recipes``: what can be trained as it is, what each recipe claims, and what one resolves to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from inbatch.errors import UsageError
from inbatch.recipe_list import as_data, as_markdown, describe, lay_out
from inbatch.recipes import EXTENDS, RECIPE, chain, find_config, methods, packaged, read, recipe_of
from inbatch.spelling import suggest

SHOW = "show"
EXAMPLES = """examples:
  inbatch recipes                                   all of them, a line each
  inbatch recipes gcse                              those of a method
  inbatch recipes show simcse/unsup-bert-base.yaml  what one claims, and each of its settings with the file it comes from
  inbatch fit --config simcse/unsup-bert-base.yaml  train it"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``inbatch recipes``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> parser.parse_args(["show", "simcse/unsup-bert-base.yaml"]).words
        ['show', 'simcse/unsup-bert-base.yaml']
    """
    parser.epilog = EXAMPLES
    parser.add_argument(
        "words", metavar="METHOD", nargs="*", help="list the recipes of these methods alone; `show NAME` explains one"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs: every entry of every recipe")
    form.add_argument("--markdown", action="store_true", help="as a table for documents")


def run(args: argparse.Namespace) -> None:
    """List recipes, or explain one.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["gces"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: there are no recipes of gces. Did you mean gcse?
    """
    words = [word.rstrip("/") for word in args.words]
    if words[:1] == [SHOW]:
        if len(words) != 2:
            raise UsageError(
                "expected one name after show, such as `inbatch recipes show simcse/unsup-bert-base.yaml`."
            )
        print("\n".join(show(words[1])))
        return
    for word in words:
        if word not in methods():
            hint = suggest(word, methods()) or f". There are {', '.join(methods())}."
            raise UsageError(f"there are no recipes of {word}{hint}")
    if args.json:
        print(json.dumps(as_data(words), indent=2, ensure_ascii=False))
    else:
        print(as_markdown(words) if args.markdown else lay_out(words))


def show(value: str) -> Iterator[str]:
    """Say what a recipe claims, and what it resolves to: each setting that a file makes, with the file.

    Example:
        >>> print(next(line for line in show("own/pairs.yaml") if "batch_size" in line))
        batch_size: 256  # own/pairs.yaml
    """
    path = find_config(value)
    files = chain(path)
    recipe = recipe_of(path)
    if recipe is not None:
        yield describe(value, recipe)
        yield ""
    from inbatch.run.lightning_words import silence_lightning
    from inbatch.run.options import FitCLI

    silence_lightning()
    needed = [word for word in (recipe.options if recipe else []) if word.startswith("--data.")]
    resolved = yaml.safe_load(FitCLI([*needed, "--config", str(path)]).dump())
    origins = {}
    for file in files:
        said = {key: item for key, item in read(file).items() if key not in (EXTENDS, RECIPE)}
        origins |= dict.fromkeys(_leaves(said), _name(file))
    origins |= {tuple(word[2:].partition("=")[0].split(".")): "the command" for word in needed}
    rows = list(_rows(resolved, origins, ()))
    width = min(100, max((len(line) for line, origin in rows if origin), default=0))
    for line, origin in rows:
        yield f"{line:<{width}}  # {origin}" if origin else line


def _name(file: Path) -> str:
    return file.relative_to(packaged()).as_posix() if file.is_relative_to(packaged()) else str(file)


def _leaves(settings: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Iterate over the paths of all values, mappings themselves left out unless they are empty."""
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from _leaves(value, (*prefix, str(key)))
    else:
        yield prefix


def _rows(
    settings: Mapping[str, Any], origins: Mapping[tuple[str, ...], str], at: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Iterate over the lines of those settings that a file makes, and the file of each value."""
    for key, value in settings.items():
        place = (*at, str(key))
        indent = "  " * len(at)
        if origin := _origin(value, place, origins):
            yield f"{indent}{key}: {_flow(value)}", origin
        elif isinstance(value, Mapping) and any(found[: len(place)] == place for found in origins):
            yield f"{indent}{key}:", ""
            yield from _rows(value, origins, place)


def _flow(value: Any) -> str:
    """Write a value as YAML in one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _origin(value: Any, place: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> str:
    """Return the file that sets a value; of one that the parser made a class or a source of, the file that set its beginning."""
    if place in origins and not (isinstance(value, Mapping) and "class_path" in value and value.get("init_args")):
        return origins[place]
    if isinstance(value, Mapping):
        return ""
    inside = [origin for found, origin in origins.items() if found[: len(place)] == place]
    return inside[-1] if inside else ""
