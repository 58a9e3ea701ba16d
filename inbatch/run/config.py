"""What is set right in the arguments of a run before they are parsed: where its files are found, and what they stand on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from inbatch.class_names import dotted, expanded, know
from inbatch.errors import UsageError
from inbatch.recipe_list import lay_out
from inbatch.recipes import EXTENDS, RECIPE, chain, find_config, is_packaged_folder, read, recipe_of, run_name


def locate_configs(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace what follows ``--config`` by the path of a file: the one that is named, else the packaged one of that name.

    Returns:
        The arguments, and the last file's name without suffix, such as ``simcse-unsup-bert-base`` (None without any).

    Raises:
        MissingError: if there is no such file.
        UsageError: if ``--config`` is the last argument.
        SystemExit: with code 0, after printing what there is in it, if a packaged folder such as ``gcse/`` is named.

    Example:
        >>> arguments, name = locate_configs(["--config", "simcse/unsup-bert-base.yaml", "--data.batch_size=128"])
        >>> name, Path(arguments[1]).is_file(), arguments[2]
        ('simcse-unsup-bert-base', True, '--data.batch_size=128')
    """
    located, name = [], None
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c"):
            located.append(argument)
            continue
        if not equals:
            value = next(rest, "")
        if not value:
            raise UsageError(f"expected a YAML file after {option}; got nothing")
        if is_packaged_folder(value):
            print(lay_out([value.rstrip("/")]))
            raise SystemExit(0)
        located += [option, str(find_config(value))]
        name = run_name(value)
    return located, name


def read_configs(arguments: Sequence[str]) -> list[str]:
    r"""Hand over as configurations what the files after ``--config`` say, each behind what it stands on, and class names as paths.

    A file that an earlier one stands on is read once, so that a command which names all of them goes on to mean the same.

    Args:
        arguments: of the command line, configurations located.

    Raises:
        MissingError: if a file is not there.
        UsageError: if one cannot be read, a recipe does not fit its schema, or a class is named in a way that means none.

    Example:
        >>> _ = Path("colder.yaml").write_text("model: {objective: {class_path: InfoNCE, init_args: {temperature: 0.02}}}")
        >>> print(*read_configs(["--config", "colder.yaml", "--data.batch_size=128"]), sep="\n")
        --config={model: {objective: {class_path: inbatch.losses.contrastive.infonce.InfoNCE, init_args: {temperature: 0.02}}}}
        --data.batch_size=128
    """
    words: list[str] = []
    seen: set[Path] = set()
    rest = iter(arguments)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--config", "-c"):
            value = value if equals else next(rest, "")
            if not Path(value).is_file():  # settings themselves
                words.append(f"{option}={value}")
                continue
            for path in chain(Path(value)):
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
                recipe_of(path)
                content = {key: item for key, item in read(path).items() if key not in (EXTENDS, RECIPE)}
                if content:
                    words.append(f"--config={_inline(expanded(content))}")
            continue
        if option.startswith("--") and equals:
            word = f"{option}={_named(option, value)}"
        elif words and words[-1].startswith("--") and "=" not in words[-1]:
            word = _named(words[-1], word)
        words.append(word)
    return words


def _named(option: str, value: str) -> str:
    """Return an option's value with the classes in it by their paths."""
    if option.endswith(".class_path"):
        return dotted(value)
    if "class_path" in value and isinstance(found := _parsed(value), dict | list):
        return _inline(expanded(found))
    know(value)
    return value


def _inline(content: Any) -> str:
    return yaml.safe_dump(
        content, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    ).strip()


# How the columns of one's own file are said.
OWN_SOURCE = "'--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}'"
_QUOTED = f"with a blank behind each colon and comma, and the whole in quotes: {OWN_SOURCE}"


def keep_path(arguments: Sequence[str]) -> list[str]:
    """Let ``--data.sources=FILE`` stand before ``--data.sources.KEY=…``: the parser would forget the file.

    Returns:
        The arguments, the file given as ``--data.sources.path`` besides.

    Raises:
        UsageError: if ``--data.sources.columns`` is no mapping, or a shell has taken a source apart.

    Example:
        >>> keep_path(["--data.sources=pairs.csv", "--data.sources.columns={anchor: question}"])
        ['--data.sources=pairs.csv', '--data.sources.path=pairs.csv', '--data.sources.columns={anchor: question}']
    """
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        words.append(word)
        option, equals, value = word.partition("=")
        if not option.startswith("--data.sources"):
            continue
        if not equals:
            value = next(rest, "")
            words += [value] if value else []
        if option == "--data.sources.columns" and not isinstance(_parsed(value), dict | None):
            raise UsageError(f"expected columns as {{anchor: NAME, positive: NAME}}, {_QUOTED}; got {value}.")
        if option == "--data.sources" and re.match(
            "(path|columns):", value
        ):  # what a shell makes of braces without blanks
            raise UsageError(f"expected a path or a source {_QUOTED}; got {value}.")
        later = [other for other in arguments if other.startswith("--data.sources.")]
        if option == "--data.sources" and value and later and not value.startswith(("{", "[")):
            words.append(f"--data.sources.path={value}")
    return words


def _parsed(value: str) -> Any:
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    # `{anchor:question}` is a mapping of a name with a colon to nothing.
    return value if isinstance(found, dict) and None in found.values() else found
