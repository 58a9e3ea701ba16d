"""The argument parser of all verbs: no abbreviations, and a wrong name is answered with the near one."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from inbatch.errors import UsageError
from inbatch.spelling import suggest


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises `UsageError` in place of leaving the program, and takes no abbreviated option.

    Example:
        >>> parser = Parser(prog="inbatch encode")
        >>> _ = parser.add_argument("--batch-size", type=int)
        >>> parser.parse_args(["--batch-size", "64"]).batch_size
        64
        >>> parser.parse_args(["--batchsize", "64"])
        Traceback (most recent call last):
        inbatch.errors.UsageError: inbatch encode takes no option --batchsize. Did you mean --batch-size?
        (`inbatch encode --help` lists them)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; see `argparse.ArgumentParser.parse_args`.

        Raises:
            UsageError: if an option or argument is unknown, missing or of the wrong kind.
        """
        args = list(sys.argv[1:] if args is None else args)
        known = _options(self, args)
        # Before parsing: a mistyped option would otherwise be reported as the absence of the right one.
        for wrong in (arg.split("=")[0] for arg in itertools.takewhile(lambda arg: arg != "--", args)):
            if wrong.startswith("--") and wrong not in known:
                raise UsageError(
                    f"{self.prog} takes no option {wrong}{suggest(wrong, known)} (`{self.prog} --help` lists them)"
                )
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise UsageError(f"{self.prog} takes no argument {unknown[0]!r} (`{self.prog} --help` lists them)")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a `UsageError`."""
        raise UsageError(f"{message} (`{self.prog} --help` explains)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            hint = suggest(str(value), names) or f". Choose from {', '.join(names)}"
            raise argparse.ArgumentError(action, f"no choice is {value!r}{hint}")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the line breaks of examples in an epilog."""


def _options(parser: argparse.ArgumentParser, args: Sequence[str]) -> list[str]:
    """Options of a parser, and of its sub-verbs that occur among the arguments."""
    names = [name for action in parser._actions for name in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in set(action.choices) & set(args):
                names += _options(action.choices[name], args)
    return names
