"""Where a run's YAML files are found, and what the parser's complaints mean in one sentence."""

from __future__ import annotations

import argparse
import inspect
import re
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
        return UsageError(f"there is no option {wrong}{suggest(wrong.lstrip('-'), keys)}")
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
