"""The objectives of this package: imported, so that the parser knows them by name; listed; and named where a wrong one was asked for."""

from __future__ import annotations

import argparse
import pkgutil
import re
import textwrap
from collections.abc import Sequence
from importlib import import_module

from inbatch import losses
from inbatch.errors import UsageError
from inbatch.losses.base import Objective
from inbatch.spelling import suggest

HELP = "--model.objective.help"


def objectives() -> dict[str, type[Objective]]:
    """Import every file of ``inbatch.losses``, and return the objectives in them by name.

    Example:
        >>> objectives()["InfoNCE"].__module__
        'inbatch.losses.contrastive.infonce'
    """
    found = {}
    for file in pkgutil.walk_packages(losses.__path__, f"{losses.__name__}."):
        module = import_module(file.name)
        for name, thing in vars(module).items():
            if isinstance(thing, type) and issubclass(thing, Objective) and thing.__module__ == module.__name__:
                found[name] = thing
    del found[Objective.__name__]
    return dict(sorted(found.items()))


def asks_for_list(arguments: Sequence[str]) -> bool:
    """Say whether help is wanted on the objective without saying which.

    Example:
        >>> asks_for_list(["--model.objective.help"]), asks_for_list(["--model.objective.help", "InfoNCE"])
        (True, False)
    """
    return any(
        word == HELP and (not after or after.startswith("-")) for word, after in zip(arguments, [*arguments[1:], ""])
    )


def list_objectives() -> str:
    """Lay out the objectives: name and what it does each, and how to learn more.

    Example:
        >>> print(next(line for line in list_objectives().splitlines() if line.startswith("  DCL ")))
          DCL    InfoNCE without the positive in the denominator: ``mean_i(-s_ii + log Σ_{j≠i} ...
    """
    known = objectives()
    width = max(map(len, known))
    lines = ["objectives:"]
    for name, thing in known.items():
        first = (thing.__doc__ or "").strip().splitlines()[0]
        lines.append(f"  {name:<{width}}  {textwrap.shorten(first, 90, placeholder=' ...')}")
    return "\n".join([*lines, f"`inbatch fit {HELP}=InfoNCE` lists the parameters of one."])


def wrong_objective(error: argparse.ArgumentError) -> UsageError | None:
    """Name the objectives that there are, where the parser complains that one is no class or no objective; None for other complaints.

    Example:
        >>> wrong_objective(argparse.ArgumentError(None, 'Parser key "objective": Expected a dot import path string: InfoNEC'))
        UsageError('there is no objective InfoNEC. Did you mean InfoNCE? Set --model.objective.')
        >>> wrong_objective(argparse.ArgumentError(None, "Unrecognized arguments: --batch")) is None
        True
    """
    text = " ".join(str(error.message).split())
    if match := re.search(r"objective\"?: Expected a dot import path string: (\w+)", text):
        known = objectives()
        hint = suggest(match[1], known) or f". There are {', '.join(known)}."
        return UsageError(f"there is no objective {match[1]}{hint} Set --model.objective.")
    if match := re.search(r"(Import path \S+ does not correspond to a subclass of Objective)", text):
        return UsageError(f"{match[1]}. There are {', '.join(objectives())}. Set --model.objective.")
    return None
