"""The packaged recipes as a list: what each trains, what it claims, whether that was reached, and its command."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from inbatch.recipes import Recipe, command, names, packaged, recipe_of, stage_before

# The claim that stands for all of a recipe's, where it has several.
_FIRST = ("sts/avg", "transfer/avg")


def listed(methods: Sequence[str] = ()) -> Iterator[tuple[str, Recipe]]:
    """Iterate over the packaged recipes, of some folders or of all, in the order of their names.

    Example:
        >>> [(name, recipe.title) for name, recipe in listed(["esimcse"])]
        [('esimcse/unsup-bert-base.yaml', 'ESimCSE, unsupervised, BERT-base')]
    """
    for name in names():
        folder = name.split("/")[0] if "/" in name else ""
        recipe = recipe_of(packaged() / name) if not methods or folder in methods or name in methods else None
        if recipe is not None:
            yield name, recipe


def lay_out(methods: Sequence[str] = ()) -> str:
    """Lay out recipes as text: a line each and, of one method, its paper, and how to run one.

    Example:
        >>> print(lay_out(["cosent"]))
        cosent: Su 2022, CoSENT: a more efficient sentence vector scheme than sentence-BERT (kexue.fm/archives/8847)
          cosent/stsb-bert-base.yaml    not yet run  CoSENT on the scored pairs of STS-B, BERT-base
        <BLANKLINE>
        train one, such as: inbatch fit --config cosent/stsb-bert-base.yaml
        `inbatch recipes show NAME` says all of one.
    """
    found = list(listed(methods))
    rows = [(name, main_claim(recipe), recipe.status, recipe.title) for name, recipe in found]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = []
    for (name, recipe), row in zip(found, rows):
        method = name.split("/")[0] if "/" in name else ""
        if not lines or (method and not any(line.startswith(f"  {method}/") for line in lines)):
            lines.append(
                textwrap.shorten(f"{method or 'this machine'}{_paper(recipe, method, found)}", 118, placeholder=" ...")
            )
        lines.append("  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]))
    example = next((name for name, recipe in found if not recipe.stage_after), found[0][0])
    return "\n".join(
        [*lines, "", f"train one, such as: {command(example)}", "`inbatch recipes show NAME` says all of one."]
    )


def as_data(methods: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return recipes as what JSON can hold: every entry of the section, the name and the command.

    Example:
        >>> [entry["command"] for entry in as_data(["esimcse"])]
        ['inbatch fit --config esimcse/unsup-bert-base.yaml']
    """
    return [{"name": name, "command": command(name), **vars(recipe)} for name, recipe in listed(methods)]


def as_markdown(methods: Sequence[str]) -> str:
    """Lay out recipes as a table for the documents.

    Example:
        >>> print(as_markdown(["esimcse"]))
        | recipe | trains | claims | where | status |
        |---|---|---|---|---|
        | `esimcse/unsup-bert-base.yaml` | ESimCSE, unsupervised, BERT-base | sts/avg 78.27 | README of the release | not yet run |
    """
    lines = ["| recipe | trains | claims | where | status |", "|---|---|---|---|---|"]
    for name, recipe in listed(methods):
        cells = (f"`{name}`", recipe.title, all_claims(recipe), recipe.table, recipe.status)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def describe(name: str, recipe: Recipe) -> str:
    """Say all that a recipe says of itself, one entry a line, and its commands.

    Example:
        >>> recipe = Recipe("SimCSE on my texts", "starting point", data="sentences.txt, one a line", notes="A few minutes are enough.")
        >>> print(describe("own/sentences.yaml", recipe))
        SimCSE on my texts
          status   starting point
          data     sentences.txt, one a line
          command  inbatch fit --config own/sentences.yaml
          notes    A few minutes are enough.
    """
    about = [
        ("paper", f"{recipe.paper}{', arXiv ' + recipe.arxiv if recipe.arxiv else ''}"),
        ("claims", f"{all_claims(recipe)}{' (' + recipe.table + ')' if recipe.claims else ''}"),
        ("status", recipe.status),
        ("data", recipe.data),
        ("files", "; ".join(f"{file} with {', '.join(columns)}" for file, columns in recipe.files.items())),
        ("cost", recipe.cost),
        ("first", stage_before(recipe) if recipe.stage_after else ""),
        *(("then", line) for line in recipe.prepare),
        ("command", command(name)),
    ]
    lines = [recipe.title, *(f"  {word:<8} {' '.join(text.split())}" for word, text in about if text.strip())]
    for number, note in enumerate(recipe.notes.splitlines()):
        lines += textwrap.wrap(
            note, 118, initial_indent=f"  {'' if number else 'notes':<8} ", subsequent_indent=" " * 13
        )
    return "\n".join(lines)


def main_claim(recipe: Recipe) -> str:
    """Return the claim that stands for all, such as ``sts/avg 76.25``; empty where nothing is claimed.

    Example:
        >>> main_claim(Recipe("SimCSE", "not yet run", claims={"sts/STS12": 68.4, "sts/avg": 76.25}))
        'sts/avg 76.25'
    """
    name = next((name for name in _FIRST if name in recipe.claims), next(iter(recipe.claims), ""))
    return f"{name} {_number(recipe.claims[name])}" if name else ""


def all_claims(recipe: Recipe) -> str:
    """Return all claims in one line.

    Example:
        >>> all_claims(Recipe("SimCSE", "not yet run", claims={"sts/STS12": 68.4, "retrieval/ndcg@10": 0.412}))
        'sts/STS12 68.40, retrieval/ndcg@10 0.412'
    """
    return ", ".join(f"{name} {_number(value)}" for name, value in recipe.claims.items())


def _number(value: float) -> str:
    """Write a score as tables do: percent with two digits, what is small as it is."""
    return f"{value:.2f}" if value >= 10 else f"{value:g}"


def _paper(recipe: Recipe, method: str, found: Sequence[tuple[str, Recipe]]) -> str:
    """Name the paper behind a method, where its recipes have one in common."""
    papers = (
        {other.paper: other for name, other in found if name.startswith(f"{method}/") and other.paper} if method else {}
    )
    if len(papers) != 1:
        return ""
    paper, other = next(iter(papers.items()))
    return f": {re.sub(chr(10), ' ', paper)}{', arXiv ' + other.arxiv if other.arxiv else ''}"
