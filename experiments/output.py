"""What commands hand out: a table for people, JSON for programs, and a result file."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inbatch.errors import MissingError, UsageError
from inbatch.files import replace_file


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json`` and ``--out``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_output_arguments(parser)
        >>> parser.parse_args(["--out", "scores.json"])
        Namespace(json=False, out='scores.json')
    """
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--out", metavar="FILE.json", help="also write the JSON object to this file")


def prepare_file(path: str | Path | None, suffix: str = ".json", option: str = "--out") -> None:
    """Refuse a file that cannot be written, before the long work; None is no file.

    Raises:
        UsageError: if the name does not end as it must, or the path is a folder or not writable.
        MissingError: if its folder is not there.

    Example:
        >>> prepare_file("scores.json")
        >>> prepare_file("scores.txt")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a file name that ends in .json; got 'scores.txt'. Set --out.
    """
    if path is None:
        return
    path = Path(path)
    if path.suffix != suffix:
        raise UsageError(f"expected a file name that ends in {suffix}; got {path.name!r}. Set {option}.")
    if not path.absolute().parent.is_dir():
        raise MissingError(
            f"expected the folder of {path} to exist; it does not. Make it with `mkdir -p {path.parent}`."
        )
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(
            f"expected a file that can be written; {path} is a folder or lies in a write-protected one. Set {option}."
        )


def report(args: argparse.Namespace, result: dict[str, Any], screen: str) -> None:
    """Print ``result`` as JSON or ``screen`` for people, and write the JSON to ``args.out`` if it is given.

    JSON has no NaN: an undefined number is null.

    Example:
        >>> report(argparse.Namespace(json=True, out=None), {"mrr": 0.5, "spearman": float("nan")}, screen="MRR 0.5")
        {
          "mrr": 0.5,
          "spearman": null
        }
    """
    text = json.dumps(_without_nan(result), indent=2)
    if args.out:
        with replace_file(args.out) as file:
            file.write(text.encode() + b"\n")
    print(text if args.json else screen)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """Lay out a table as text, first column to the left and the others to the right; framed by rich on a terminal.

    Example:
        >>> print(table("Seconds a step", ["", "median"], [["ours", "0.48"], ["autograd", "2.00"]]))
        Seconds a step
        <BLANKLINE>
                  median
        --------  ------
        ours        0.48
        autograd    2.00
    """
    if sys.stdout.isatty():
        return _framed(title, columns, rows, note)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [
        "  ".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths)))
        for row in [columns, ["-" * w for w in widths], *rows]
    ]
    return "\n".join([title, "", *(line.rstrip() for line in lines), *(["", note] if note else [])])


def _framed(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title), caption=Text(note), title_justify="left", caption_justify="left")
    for i, column in enumerate(columns):
        grid.add_column(Text(column), justify="left" if i == 0 else "right")
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=sys.stdout)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip("\n")
