"""Where a run's YAML files are found, and what the parser's complaints mean in one sentence."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml

from inbatch.arguments import suggest
from inbatch.errors import MissingError, UsageError


def locate_configs(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace what follows ``--config`` by the path of a file: the one that is named, else the packaged one of that name.

    Returns:
        The arguments, and the last file's name without suffix, such as ``simcse-unsup-bert-base`` (None without any).

    Raises:
        MissingError: if there is no such file.
        UsageError: if ``--config`` is the last argument, or a file sets what another option decides.
        SystemExit: with code 0, after printing what there is in it, if a packaged folder such as ``gcse/`` is named.
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
        if _is_packaged_folder(value):
            print(list_folder(value))
            raise SystemExit(0)
        path = find_config(value)
        _refuse_linked_keys(path)
        located += [option, str(path)]
        given = Path(value).with_suffix("")
        # Rows of several methods have the same name: their folder tells the runs apart.
        name = given.name if given.is_absolute() else "-".join(part for part in given.parts if part != "..")
    return located, name


def find_config(value: str) -> Path:
    """Return the path of a configuration file, of this folder or packaged (such as ``simcse/unsup-bert-base.yaml``)."""
    for path in (Path(value), _packaged() / value):
        if path.is_file():
            return path
    names = _names()
    hint = suggest(value, names) or _what_there_is(value, names)
    raise MissingError(f"there is no configuration file {value}, neither here nor among the packaged ones{hint}")


def list_folder(folder: str) -> str:
    """Lay out the files of a packaged folder such as ``gcse``: a name and the beginning of its header each, and how to use one."""
    names = [name for name in _names() if name.startswith(f"{folder.rstrip('/')}/")]
    width = max(map(len, names))
    lines = [f"packaged in {folder.rstrip('/')}/ (nothing was trained):"]
    for name in names:
        header = (_packaged() / name).read_text("utf8").splitlines()[0]
        about = re.sub(r"^# (Claim +)?", "", header)
        lines.append(f"  {name:<{width}}  {textwrap.shorten(about, 80, placeholder=' ...')}")
    row = next(name for name in names if not name.endswith("/shared.yaml"))
    return "\n".join([*lines, f"to train one, such as the first row: inbatch fit {options_for(row)}"])


def options_for(value: str) -> str:
    """Return the ``--config`` options that run a configuration file: of a packaged row those in its header, which name what it stands on."""
    path = _packaged() / value
    command = _command(path) if path.is_file() else None
    return " ".join(re.findall(r"--config \S+", command or "")) or f"--config {value}"


def names_config(word: str) -> bool:
    """Say whether a word means a configuration: a YAML file, or a packaged folder of them."""
    return word.endswith((".yaml", ".yml")) or _is_packaged_folder(word)


def command_for(run: str) -> str | None:
    """Return the command in the header of the packaged row whose runs bear this name, such as ``gcse-stage1-bert-base``, with the folder.

    None where there is no such row.
    """
    for name in _names():
        if "-".join(Path(name).with_suffix("").parts) == run:
            command = _command(_packaged() / name)
            return command and f"{command.split(' --run_dir ')[0]} --run_dir runs/{run}"
    return None


def _command(path: Path) -> str | None:
    found = re.search(r"^# Command +(.+)$", path.read_text("utf8"), re.MULTILINE)
    return found and found[1]


def _packaged() -> Path:
    return Path(str(resources.files("inbatch.experiments")))


def _names() -> list[str]:
    return sorted(str(path.relative_to(_packaged())) for path in _packaged().rglob("*.yaml"))


def _is_packaged_folder(value: str) -> bool:
    return any(name.startswith(f"{value.rstrip('/')}/") for name in _names())


def _what_there_is(value: str, names: list[str]) -> str:
    """List the packaged files of the folder that was named, or else the folders."""
    folder = f"{value.split('/')[0]}/"
    if below := [name for name in names if name.startswith(folder)]:
        return f". Packaged in {folder} are: {', '.join(below)}"
    return f". Packaged are: {', '.join(name for name in names if '/' not in name)}, and {_folders(names)}"


def _folders(names: list[str]) -> str:
    folders = sorted({f"{name.split('/')[0]}/" for name in names if "/" in name})
    return f"rows in {', '.join(folders)}; --config {folders[0]} lists a folder's"


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
    if match := re.search(r"[Uu]nrecognized arguments: (.*)", text):
        wrong = match[1].split()[0].split("=")[0]
        if names_config(wrong):
            return UsageError(f"{wrong} is no option. Did you mean {options_for(wrong)}?")
        return UsageError(f"there is no option {wrong}{suggest(wrong.lstrip('-'), keys)}")
    if match := re.search(r"following arguments are required: (.*)", text):
        return UsageError(
            f"expected {match[1]} to be set. Give --config base.yaml --config ROW.yaml, or set what is missing; there are "
            f"{_folders(_names())}."
        )
    if match := re.search(r"Group '(.+?)' does not accept option '(.+?)'", text):
        wrong = f"{match[1]}.{match[2]}"
        return UsageError(f"there is no option {wrong}{suggest(wrong, keys)}")
    if match := re.search(r"Option '(.+?)' is not accepted", text):
        owner = re.findall(r"class_path[ =]'(.+?)'", text)
        if not owner:
            wrong = match[1]
            return UsageError(f"there is no option {wrong}{suggest(wrong, keys)}")
        known = _parameters(owner[-1])
        near = suggest(match[1], known) or (f". It has {', '.join(known)}" if known else "")
        return UsageError(f"{owner[-1]} has no option {match[1]}{near}")
    if match := re.search(r"[kK]ey \"?(.+?)\"? is required", text):
        return UsageError(f"expected {match[1]} to be set; it is not. Set it in a --config file or as --{match[1]}.")
    for path in re.findall(r"class_path '(.+?)'|import path string: (\S+)", text):
        if hint := _near_class("".join(path)):
            return UsageError(f"there is no class {''.join(path)}{hint}")
    return UsageError(_shorten(text))


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
