"""The pages of the documentation, taken apart: blocks of code, commands, links, and what is mentioned in code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES = ["README.md", *DOCS]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_START = re.compile(r"^(?:.*\s)?(?:\S*/)?inbatch (?=[a-z])")
# What stands in a command for something of the reader's, or for more of the same.
_PLACEHOLDER = re.compile(r"…|\[|\\\||[A-Z]{4,}\.yaml|\bMETHOD\b|\bCOMMAND\b|\bNAME\b|<")


class Block(NamedTuple):
    """A fenced block: its language, the name of the file that it is or "", and its content."""

    language: str
    name: str
    content: str


def read(page: str) -> str:
    """Read a page by its path from the root."""
    return (ROOT / page).read_text(encoding="utf8")


def blocks(page: str) -> list[Block]:
    """Return a page's fenced blocks."""
    return [Block(*[*info.split(None, 1), "", ""][:2], content) for info, content in _FENCE.findall(read(page))]


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def code(page: str) -> list[str]:
    """Return what stands in backticks in a page's text."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def files(page: str) -> dict[str, str]:
    """Return the files that a page gives, by name."""
    return {block.name: block.content for block in blocks(page) if re.fullmatch(r"[\w-]+\.\w+", block.name)}


def commands(page: str) -> list[list[str]]:
    """Return the words behind ``inbatch`` of the commands of a page that can be given as they stand."""
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.content.splitlines()]
    lines += [span for span in code(page) if _is_whole(span)]
    return [words for line in lines if (words := _words(line))]


def outlines(page: str) -> list[str]:
    """Return the commands of a page that have something to fill in."""
    return [span for span in code(page) if _START.search(span) and not _is_whole(span)]


def _is_whole(span: str) -> bool:
    """Say whether a command in a sentence can be given as it stands; else it has something to fill in, or only names what is meant."""
    return not _PLACEHOLDER.search(span) and ("--" in span or "recipes" in span)


def _words(line: str) -> list[str]:
    start = _START.match(line)
    return shlex.split(line[start.end() :], comments=True) if start else []


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
