"""Recipes: files of settings that name what they stand on and say what they claim; found, read and checked here, without torch."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from inbatch.errors import MissingError, UsageError
from inbatch.spelling import suggest

Status = Literal["not yet run", "measured", "reproduced", "starting point"]
# What a file holds besides the settings of a run.
EXTENDS, RECIPE = "extends", "recipe"


@dataclass(frozen=True)
class Recipe:
    """What a file claims: its section ``recipe``.

    Attributes:
        title: what is trained, in one line.
        status: whether its numbers were reached here: ``not yet run``; ``measured``, here and for the first time; ``reproduced``, as the
            paper says; ``starting point``, of which nothing is claimed.
        paper: authors, year, title.
        arxiv: the paper's number there.
        table: where the claimed numbers stand.
        claims: what is claimed, by the name that the evaluation has for it, such as ``sts/avg``.
        stage_after: the recipe of the stage before, whose export this one starts from.
        prepare: commands to give before the run and after that stage.
        options: what its command sets besides ``--config``.
        files: what files of one's own it reads, and their columns.
        data: what it trains on.
        cost: steps, time and memory.
        notes: what else there is to know, one sentence a line.

    Example:
        >>> recipe = Recipe("unsupervised SimCSE, BERT-base", "not yet run", table="README", claims={"sts/avg": 76.25})
        >>> recipe.claims["sts/avg"], recipe.stage_after
        (76.25, '')
    """

    title: str
    status: Status
    paper: str = ""
    arxiv: str = ""
    table: str = ""
    claims: dict[str, float] = field(default_factory=dict)
    stage_after: str = ""
    prepare: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    data: str = ""
    cost: str = ""
    notes: str = ""


def packaged() -> Path:
    """Return the folder of the recipes that come with the package.

    Example:
        >>> (packaged() / "simcse/unsup-bert-base.yaml").is_file()
        True
    """
    return Path(str(resources.files("inbatch.experiments"))) / "recipes"


def names() -> list[str]:
    """List the packaged files, recipes and what they share, such as ``simcse/unsup-bert-base.yaml``.

    Example:
        >>> [name for name in names() if name.startswith("own/")]
        ['own/pairs.yaml']
    """
    return sorted(path.relative_to(packaged()).as_posix() for path in packaged().rglob("*.yaml"))


def methods() -> list[str]:
    """List the folders of packaged recipes.

    Example:
        >>> {"simcse", "promptbert"} <= set(methods())
        True
    """
    return sorted({name.split("/")[0] for name in names() if "/" in name})


def is_packaged_folder(value: str) -> bool:
    """Say whether a word is a folder of packaged recipes.

    Example:
        >>> is_packaged_folder("simcse/"), is_packaged_folder("simcse/unsup-bert-base.yaml")
        (True, False)
    """
    return value.rstrip("/") in methods()


def names_config(word: str) -> bool:
    """Say whether a word means a configuration: a YAML file, or a folder of packaged recipes.

    Example:
        >>> names_config("mine.yaml"), names_config("simcse"), names_config("pairs.csv")
        (True, True, False)
    """
    return word.endswith((".yaml", ".yml")) or is_packaged_folder(word)


def find_config(value: str, beside: Path | None = None) -> Path:
    """Return the path of a configuration: of this folder, or packaged (such as ``simcse/unsup-bert-base.yaml``).

    Args:
        value: a path or a packaged name.
        beside: the file that names it, which is looked beside first.

    Raises:
        MissingError: if there is no such file.

    Example:
        >>> find_config("simcse/unsup-bert-base.yaml") == packaged() / "simcse/unsup-bert-base.yaml"
        True
        >>> find_config("simcse/unsup-bert-bas.yaml")
        Traceback (most recent call last):
        inbatch.errors.MissingError: there is no configuration file simcse/unsup-bert-bas.yaml, neither here nor among the packaged ones.
        Did you mean simcse/unsup-bert-base.yaml?
    """
    for path in (*([] if beside is None else [beside.parent / value]), Path(value), packaged() / value):
        if path.is_file():
            return path
    known = names()
    hint = suggest(value, known) or _what_there_is(value, known)
    asked = "" if beside is None else f", which {beside} extends"
    raise MissingError(f"there is no configuration file {value}{asked}, neither here nor among the packaged ones{hint}")


def read(path: Path) -> dict[str, Any]:
    """Read a configuration; empty if the file is.

    Raises:
        UsageError: if it is no UTF-8 or no YAML, no mapping, or sets what `seed_everything` decides.

    Example:
        >>> _ = Path("few-steps.yaml").write_text("trainer: {max_steps: 10}")
        >>> read(Path("few-steps.yaml"))
        {'trainer': {'max_steps': 10}}
    """
    found = path.read_bytes()
    try:
        content = yaml.load(found.decode("utf-8-sig"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except UnicodeDecodeError:
        encoding = "utf-16" if found[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise UsageError(
            f"expected UTF-8 in {path}; it is not. Convert it, where it is {encoding}: iconv -f {encoding} -t utf-8 "
            f"{shlex.quote(str(path))} > utf8.yaml"
        ) from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"expected YAML in {path}; got an error{place}: {problem or error}. Mend that line.") from None
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"expected settings, `name: value`, in {path}; got {type(content).__name__}.")
    for section in ("model", "data"):
        if isinstance((content or {}).get(section), dict) and "seed" in (content or {})[section]:
            raise UsageError(
                f"{section}.seed is set by seed_everything; {path} sets it, too. Set seed_everything instead."
            )
    return content or {}


def chain(path: Path) -> list[Path]:
    """Return a file and all that it stands on, in the order in which they are read: later ones win.

    ``extends`` names them, each looked up beside the file that names it, then here, then among the packaged ones; each is read once,
    where it is first needed.

    Raises:
        MissingError: if one is not there.
        UsageError: if ``extends`` is no list of names, or leads back to a file that it comes from.

    Example:
        >>> [path.relative_to(packaged()).as_posix() for path in chain(packaged() / "simcse/unsup-bert-base.yaml")]
        ['base.yaml', 'simcse/shared.yaml', 'simcse/unsup-bert-base.yaml']
    """

    def visit(path: Path, above: list[Path]) -> Iterator[Path]:
        if path.resolve() in [other.resolve() for other in above]:
            way = " -> ".join(str(p) for p in [*above[above.index(path) if path in above else 0 :], path])
            raise UsageError(f"{path} extends itself: {way}. Take it out of one `extends`.")
        wanted = read(path).get(EXTENDS) or []
        if not (isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)):
            raise UsageError(f"expected {EXTENDS}: [FILE, …] in {path}; got {wanted!r}.")
        for name in wanted:
            yield from visit(find_config(name, path), [*above, path])
        yield path

    return list(dict.fromkeys(visit(path, [])))


def recipe_of(path: Path) -> Recipe | None:
    """Return what a file claims; None for one that claims nothing, as what several recipes share.

    Raises:
        UsageError: if the section has a name that the schema lacks, a value of another type, or a claim without its table, or if
            there is no recipe of the name that ``stage_after`` gives.

    Example:
        >>> recipe_of(packaged() / "simcse/unsup-bert-base.yaml").title
        'unsupervised SimCSE, BERT-base'
        >>> recipe_of(packaged() / "base.yaml") is None
        True
    """
    found = read(path).get(RECIPE)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise UsageError(f"expected {RECIPE}: {{title: …, status: …}} in {path}; got {found!r}.")
    types = _types()
    for name, value in found.items():
        if name not in types:
            known = suggest(str(name), types) or f". It has {', '.join(types)}"
            raise UsageError(f"{path}: a recipe has no entry {name}{known}")
        if not _fits(value, types[name]):
            raise UsageError(f"{path}: expected {RECIPE}.{name} as {_say(types[name])}; got {value!r}.")
    for name in ("title", "status"):
        if name not in found:
            raise UsageError(f"{path}: expected {RECIPE}.{name}; there is none.")
    recipe = Recipe(**found)
    if recipe.claims and not recipe.table:
        raise UsageError(f"{path}: expected {RECIPE}.table beside claims; there is none. Say where they stand.")
    if (
        recipe.stage_after
        and not (packaged() / recipe.stage_after).is_file()
        and not Path(recipe.stage_after).is_file()
    ):
        hint = suggest(recipe.stage_after, names())
        raise UsageError(f"{path}: there is no recipe {recipe.stage_after}, which {RECIPE}.stage_after names{hint}")
    return recipe


def command(name: str, run_dir: str | None = None) -> str:
    """Return the command that runs a recipe, such as ``inbatch fit --config simcse/unsup-bert-base.yaml``.

    Args:
        name: of the recipe.
        run_dir: where the run must go; the command says it where the recipe does not.

    Example:
        >>> command("simcse/unsup-bert-base.yaml", run_dir="runs/mine")
        'inbatch fit --config simcse/unsup-bert-base.yaml --run_dir runs/mine'
    """
    path = packaged() / name
    recipe = recipe_of(path) if path.is_file() else None
    options = list(recipe.options if recipe else [])
    if run_dir is not None and read(path).get("run_dir") != run_dir:
        options += ["--run_dir", run_dir]
    return shlex.join(["inbatch", "fit", "--config", name, *options])


def stage_before(recipe: Recipe) -> str:
    """Return the command of the stage that a recipe starts from, which leaves it where the recipe reads it.

    Example:
        >>> stage_before(recipe_of(packaged() / "gcse/bert-base.yaml"))
        'inbatch fit --config gcse/stage1-bert-base.yaml'
    """
    return command(recipe.stage_after, f"runs/{run_name(recipe.stage_after)}")


def command_for(run: str) -> str | None:
    """Return the command of the recipe whose runs bear a name such as ``gcse-stage1-bert-base``; None where there is none.

    Example:
        >>> command_for("gcse-stage1-bert-base")
        'inbatch fit --config gcse/stage1-bert-base.yaml'
        >>> command_for("my-own-run") is None
        True
    """
    for name in names():
        if run_name(name) == run and recipe_of(packaged() / name):
            return command(name, f"runs/{run}")
    return None


def run_name(value: str) -> str:
    """Return the name that runs of a configuration bear; recipes of several methods have the same one: their folder tells them apart.

    Example:
        >>> run_name("simcse/unsup-bert-base.yaml"), run_name("../mine.yaml"), run_name("/home/ada/mine.yaml")
        ('simcse-unsup-bert-base', 'mine', 'mine')
    """
    given = Path(value).with_suffix("")
    return given.name if given.is_absolute() else "-".join(part for part in given.parts if part != "..")


def methods_hint() -> str:
    """Say where recipes are, and how to list them.

    Example:
        >>> methods_hint().partition(",")[0], methods_hint().rpartition("; ")[2]
        ('recipes of angle', '`inbatch recipes` lists them')
    """
    return f"recipes of {', '.join(methods())}; `inbatch recipes` lists them"


def _what_there_is(value: str, known: list[str]) -> str:
    """List the packaged files of the folder that was named, or else the folders."""
    folder = f"{value.split('/')[0]}/"
    if below := [name for name in known if name.startswith(folder)]:
        return f". Packaged in {folder} are: {', '.join(below)}"
    return f". Packaged are: {', '.join(name for name in known if '/' not in name)}, and {methods_hint()}"


@cache
def _types() -> dict[str, Any]:
    hints = get_type_hints(Recipe)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(Recipe)}


def _fits(value: Any, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if get_origin(wanted) is list:
        return isinstance(value, list) and all(_fits(item, get_args(wanted)[0]) for item in value)
    if get_origin(wanted) is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _fits(item, get_args(wanted)[1]) for key, item in value.items()
        )
    return isinstance(value, int | float if wanted is float else wanted) and not isinstance(value, bool)


def _say(wanted: Any) -> str:
    """Name a type as a person would who writes YAML."""
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(get_args(wanted))}"
    if get_origin(wanted) is list:
        return "a list [TEXT, …]"
    if get_origin(wanted) is dict:
        return "a mapping {NAME: NUMBER}" if get_args(wanted)[1] is float else "a mapping {FILE: [COLUMN, …]}"
    return "a text"
