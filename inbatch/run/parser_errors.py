"""What the parser's complaints, and errors of building a run, mean in one sentence."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from inbatch.errors import InbatchError, UsageError, own_error
from inbatch.recipes import command, methods_hint, names_config
from inbatch.run.config import OWN_SOURCE
from inbatch.spelling import suggest


def explain(error: argparse.ArgumentError, options: Iterable[str]) -> UsageError:
    """Turn a complaint of the parser into one sentence that names the wrong key and the near one.

    Args:
        error: of jsonargparse.
        options: the dotted keys that the parser knows.

    Example:
        >>> error = argparse.ArgumentError(None, "Unrecognized arguments: --trainer.max_step=200")
        >>> explain(error, ["trainer.max_steps", "trainer.max_epochs"])
        UsageError('there is no option --trainer.max_step. Did you mean trainer.max_steps?')
    """
    # Only the complaint itself: argparse would put the option's name in front of it.
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    text = " ".join(lines)
    keys = list(options)
    if "inbatch.data.sources.sources.Source" in text and re.search(r"\bpath=None", text):
        return UsageError(
            f"data.sources: expected a path beside its other fields; got none. Set --data.sources.path=FILE as well, or {OWN_SOURCE}"
        )
    if match := re.search(r"[Uu]nrecognized arguments: (.*)", text):
        wrong = match[1].split()[0].split("=")[0]
        if names_config(wrong):
            return UsageError(f"{wrong} is no option. Did you mean {command(wrong).removeprefix('inbatch fit ')}?")
        if not wrong.startswith("-"):
            return UsageError(
                f"{wrong} belongs to no option; a value with blanks stands in quotes, such as {OWN_SOURCE}"
            )
        return _no_option(wrong, keys)
    if match := re.search(r"following arguments are required: (.*)", text):
        return UsageError(
            f"expected {match[1]} to be set. Give --config RECIPE, or set what is missing; there are {methods_hint()}."
        )
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
    """Find what is ours in an error of building a run, and say options of ``inbatch evaluate`` as a run has them.

    Args:
        error: of the parser, or of a part.
        evaluators: their configurations, by name.

    Example:
        >>> error = ValueError("no type fits")
        >>> error.__cause__ = UsageError("there is no folder STS. Set --data-dir.")
        >>> in_a_run(error, {"sts": {"class_path": "STS", "init_args": {"data_dir": "STS"}}})
        UsageError('there is no folder STS. Set --evaluators.sts.init_args.data_dir.')
    """
    found = own_error(error)
    if found is None:
        return error  # of a setting that may be null the parser says only that no type of it fits
    text = str(found)
    for option in ("--data-dir", "--positive-score"):
        setting = option.removeprefix("--").replace("-", "_")
        names = [name for name, given in evaluators.items() if setting in _settings_of(given)]
        text = text.replace(option, f"--evaluators.{names[0] if len(names) == 1 else 'NAME'}.init_args.{setting}")
    return found if text == str(found) else type(found)(text)


def _settings_of(evaluator: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an evaluator's settings; the parser gives each that it has, with its default."""
    return evaluator.get("init_args") or {}


def with_arguments(error: InbatchError, arguments: Sequence[str]) -> InbatchError:
    """Put the arguments of a run where an error names a command that takes the same ones, ``--config …``.

    Example:
        >>> error = UsageError("the batch does not fit. Run inbatch doctor --config …")
        >>> with_arguments(error, ["--config", "mine.yaml", "--fresh"])
        UsageError('the batch does not fit. Run inbatch doctor --config mine.yaml')
    """
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
        near = suggest(match[3], re.findall(r"'([^']+)'", match[2]))
        text = f"{match[1]}expected {match[2]}; got {match[3]}{near}"
    return text if len(text) <= 400 else f"{text[:400]} ..."


def _parameters(class_path: str) -> list[str]:
    owner = resolve(class_path)
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


def resolve(path: str) -> Any:
    """Return what a dotted path such as ``torch.optim.AdamW`` names; None if there is none.

    Example:
        >>> resolve("torch.optim.AdamW").__name__
        'AdamW'
        >>> resolve("torch.optim.AdamQ") is None
        True
    """
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
