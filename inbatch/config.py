"""Where a run's YAML files are found, and what the parser's complaints mean in one sentence."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml

from inbatch.arguments import suggest
from inbatch.errors import InbatchError, MissingError, UsageError, own_error


def locate_configs(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace what follows ``--config`` by the path of a file: the one that is named, else the packaged one of that name.

    Returns:
        The arguments, and the last file's name without suffix, such as ``simcse-unsup-bert-base`` (None without any).

    Raises:
        MissingError: if there is no such file.
        UsageError: if ``--config`` is the last argument, or a file sets what another option decides.
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
        path = find_config(value)
        _refuse_linked_keys(path)
        located += [option, str(path)]
        given = Path(value).with_suffix("")
        # Rows of several methods have the same name: their folder tells the runs apart.
        name = given.name if given.is_absolute() else "-".join(part for part in given.parts if part != "..")
    return located, name


def find_config(value: str) -> Path:
    """Return the path of a configuration file, of this folder or packaged (such as ``simcse/unsup-bert-base.yaml``)."""
    packaged = Path(str(resources.files("inbatch.experiments")))
    for path in (Path(value), packaged / value):
        if path.is_file():
            return path
    names = sorted(str(path.relative_to(packaged)) for path in packaged.rglob("*.yaml"))
    hint = suggest(value, names) or _packaged(value, names)
    raise MissingError(f"there is no configuration file {value}, neither here nor among the packaged ones{hint}")


def command_for(run: str) -> str | None:
    """Return the command in the header of the packaged row whose runs bear this name, such as ``gcse-stage1-bert-base``, with the folder.

    None where there is no such row.
    """
    packaged = Path(str(resources.files("inbatch.experiments")))
    for path in sorted(packaged.rglob("*.yaml")):
        if "-".join(path.relative_to(packaged).with_suffix("").parts) == run:
            found = re.search(r"^# Command +(.+)$", path.read_text("utf8"), re.MULTILINE)
            return found and f"{found[1].split(' --run_dir ')[0]} --run_dir runs/{run}"
    return None


def _packaged(value: str, names: list[str]) -> str:
    """List the packaged files of the folder that was named, or else the folders."""
    folder = f"{value.split('/')[0]}/"
    if below := [name for name in names if name.startswith(folder)]:
        return f". Packaged in {folder} are: {', '.join(below)}"
    top = [name for name in names if "/" not in name]
    folders = sorted({f"{name.split('/')[0]}/" for name in names if "/" in name})
    return f". Packaged are: {', '.join(top)}, and rows in {', '.join(folders)}; --config {folders[0]} lists a folder's"


def _refuse_linked_keys(path: Path) -> None:
    # The parser would overwrite them without a word. What is no YAML at all is left to the parser to complain about.
    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return
    for section in ("model", "data"):
        if isinstance(content, dict) and isinstance(content.get(section), dict) and "seed" in content[section]:
            raise UsageError(
                f"{section}.seed is set by seed_everything; {path} sets it, too. Set seed_everything instead."
            )


# How the columns of one's own file are said.
OWN_SOURCE = "'--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}'"
_QUOTED = f"with a blank behind each colon and comma, and the whole in quotes: {OWN_SOURCE}"


def keep_path(arguments: Sequence[str]) -> list[str]:
    """Let ``--data.sources=FILE`` stand before ``--data.sources.KEY=…``: the parser would forget the file.

    Returns:
        The arguments, the file given as ``--data.sources.path`` besides.

    Raises:
        UsageError: if ``--data.sources.columns`` is no mapping, or a shell has taken a source apart.
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


def explain(error: argparse.ArgumentError, options: Iterable[str]) -> UsageError:
    """Turn a complaint of the parser into one sentence that names the wrong key and the near one.

    Args:
        error: of jsonargparse.
        options: the dotted keys that the parser knows.
    """
    # Only the complaint itself: argparse would put the option's name in front of it.
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    text = " ".join(lines)
    keys = list(options)
    if "inbatch.data.sources.Source" in text and re.search(r"\bpath=None", text):
        return UsageError(
            f"data.sources: expected a path beside its other fields; got none. Set --data.sources.path=FILE as well, or {OWN_SOURCE}"
        )
    if match := re.search(r"[Uu]nrecognized arguments: (.*)", text):
        wrong = match[1].split()[0].split("=")[0]
        if not wrong.startswith("-"):
            return UsageError(
                f"{wrong} belongs to no option; a value with blanks stands in quotes, such as {OWN_SOURCE}"
            )
        return _no_option(wrong, keys)
    if match := re.search(r"Group '(.+?)' does not accept option '(.+?)'", text):
        return _no_option(f"{match[1]}.{match[2]}", keys)
    if match := re.search(r"Option '(.+?)' is not accepted", text):
        owner = re.findall(r"class_path[ =]'(.+?)'", text)
        if not owner:
            return _no_option(match[1], keys)
        known = _parameters(owner[-1])
        # Other libraries abbreviate, as peft does: r is the rank.
        longer = [name for name in known if name.startswith(match[1])]
        near = f". Did you mean {longer[0]}?" if len(longer) == 1 else suggest(match[1], known)
        near = near or (f". It has {', '.join(known)}" if known else "")
        return UsageError(f"{owner[-1]} has no option {match[1]}{near}")
    if match := re.search(r"[kK]ey \"?(.+?)\"? is required", text):
        return UsageError(f"expected {match[1]} to be set; it is not. Set it in a --config file or as --{match[1]}.")
    for path in re.findall(r"class_path '(.+?)'|import path string: (\S+)", text):
        if hint := _near_class("".join(path)):
            return UsageError(f"there is no class {''.join(path)}{hint}")
    return UsageError(_shorten(text))


def in_a_run(error: Exception, evaluators: Mapping[str, Any]) -> Exception:
    """Find what is ours in an error of building a run, and say ``--data-dir``, an option of ``inbatch evaluate``, as a run has it.

    Args:
        error: of the parser, or of a part.
        evaluators: their configurations, by name.
    """
    found = own_error(error)
    if found is None:
        return error  # of a setting that may be null the parser says only that no type of it fits
    if "--data-dir" not in str(found):
        return found
    names = [name for name, given in evaluators.items() if "data_dir" in (given.get("init_args") or {})]
    option = f"--evaluators.{names[0] if len(names) == 1 else 'NAME'}.init_args.data_dir"
    return type(found)(str(found).replace("--data-dir", option))


def with_arguments(error: InbatchError, arguments: Sequence[str]) -> InbatchError:
    """Put the arguments of a run where an error names a command that takes the same ones, ``--config …``."""
    if "--config …" in str(error):
        pairs = zip(["", *arguments], arguments)  # a word and the one before it
        kept = [word for before, word in pairs if "--fresh" not in (before, word.partition("=")[0])]
        error.args = (str(error).replace("--config …", shlex.join(kept)),)
    return error


def _no_option(wrong: str, keys: list[str]) -> UsageError:
    if wrong in ("--columns", "--data.columns", "data.columns", "columns"):
        return UsageError(f"there is no option {wrong}: columns belong to a source. Write {OWN_SOURCE}")
    return UsageError(f"there is no option {wrong}{suggest(wrong.lstrip('-'), keys)}")


def _shorten(text: str) -> str:
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"Call to compute_fn of link .* failed: ", "", text)
    text = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", text)
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    if match := re.search(
        r"(.*?)Does not validate against any .*?Subtypes: \[(.*)\] Errors: .*Given value: (.*)", text
    ):
        text = f"{match[1]}expected {match[2]}; got {match[3]}"
    return text if len(text) <= 400 else f"{text[:400]} ..."


def _parameters(class_path: str) -> list[str]:
    owner = _resolve(class_path)
    return [] if owner is None else [name for name in inspect.signature(owner).parameters if name != "self"]


def _near_class(path: str) -> str:
    """Suggest a name of the module that ``path`` names rightly; empty if it names none, or all of it rightly."""
    module, _, name = path.rpartition(".")
    try:
        there = vars(import_module(module)) if module else {}
    except ImportError:
        return ""
    classes = [f"{module}.{key}" for key, value in there.items() if inspect.isclass(value) and value is not Any]
    return "" if not classes or name in there else suggest(path, classes) or f". {module} has none near it"


def _resolve(path: str) -> Any:
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for part in parts[split:]:
            found = getattr(found, part, None)
        return found
    return None
