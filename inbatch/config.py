"""Where a run's YAML files are found, and what is set right in its arguments before they are parsed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from inbatch.errors import MissingError, UsageError
from inbatch.spelling import suggest


def locate_configs(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Replace what follows ``--config`` by the path of a file: the one that is named, else the packaged one of that name.

    Returns:
        The arguments, and the last file's name without suffix, such as ``simcse-unsup-bert-base`` (None without any).

    Raises:
        MissingError: if there is no such file.
        UsageError: if ``--config`` is the last argument, or a file sets what another option decides, or is not UTF-8.
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
    return f". Packaged are: {', '.join(name for name in names if '/' not in name)}, and {rows_hint()}"


def rows_hint() -> str:
    """Say where rows are, and how to list them."""
    folders = sorted({f"{name.split('/')[0]}/" for name in _names() if "/" in name})
    return f"rows in {', '.join(folders)}; --config {folders[0]} lists a folder's"


def _refuse_linked_keys(path: Path) -> None:
    # The parser would overwrite them without a word. What is no YAML at all is left to the parser to complain about.
    found = path.read_bytes()
    try:
        content = yaml.safe_load(found.decode("utf-8-sig"))
    except UnicodeDecodeError:
        encoding = "utf-16" if found[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise UsageError(
            f"expected UTF-8 in {path}; it is not. Convert it, where it is {encoding}: iconv -f {encoding} -t utf-8 {path} > utf8.yaml"
        ) from None
    except yaml.YAMLError:
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
