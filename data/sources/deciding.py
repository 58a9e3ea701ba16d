"""Decide how a file is read, and which column plays which role, or say what has to be said before that can be decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inbatch.data.formats.cells import READ
from inbatch.data.formats.columns import OTHER, Roles, resolve, role_of
from inbatch.data.formats.doubt import Doubt, Meaning
from inbatch.data.formats.files import DELIMITED, Reading, look, peek
from inbatch.data.formats.ids import Likeness, find_ids
from inbatch.data.formats.nested import offered, spelled
from inbatch.data.formats.opening import suffix_of
from inbatch.data.formats.roles import by_number, flat, listed
from inbatch.errors import UsageError

if TYPE_CHECKING:
    from inbatch.data.sources import Source

# The settings of a source that say how the bytes of a text file become rows.
READING = ("encoding", "delimiter", "quotes", "header")

# Gives the columns, as a source sets them, from what each column holds, and from those that hold identifiers or may.
Choose = Callable[[Mapping[str, str], Mapping[str, Likeness]], dict[str, Any]]
# How a file is read, what each column holds, and its first cells.
Look = tuple[Reading, dict[str, str], dict[str, list[Any]]]


def look_at(path: Path, source: Source) -> Look:
    r"""Decide from its first rows how a file is read, and what its columns hold.

    Raises:
        UsageError: if the settings of the source do not fit the file, or its first rows are wrong.
        Doubt: if it can be read in several ways.

    Example:
        >>> from inbatch.data.sources import Source
        >>> _ = Path("faq.csv").write_text("question;answer\nDo you ship?;Yes.\n")
        >>> layout, kinds, cells = look_at(Path("faq.csv"), Source("faq.csv"))
        >>> layout.delimiter, kinds, cells["answer"]
        (';', {'question': 'text', 'answer': 'text'}, ['Yes.'])
    """
    columns = flat(source.columns)
    numbered = {isinstance(i, int) for value in (columns or {}).values() for i in listed(value)}
    if len(numbered) == 2 and suffix_of(path) in DELIMITED:
        raise UsageError(
            f"{path}: columns are numbers for a csv or tsv file without a line of names, and names otherwise; got both."
        )
    reading = look(path, columns, **{name: getattr(source, name) for name in READING})
    return reading, *peek(path, reading)


def decide(path: Path, source: Source, choose: Choose | None = None) -> tuple[*Look, Roles]:
    r"""Decide what `look_at` does, and which column plays which role.

    Raises:
        UsageError: as `look_at` does, or if the roles cannot be decided.

    Example:
        >>> from inbatch.data.sources import Source
        >>> _ = Path("faq.csv").write_text("question;answer\nDo you ship?;Yes.\n")
        >>> *_, roles = decide(Path("faq.csv"), Source("faq.csv"))
        >>> print(roles)
        anchor = question; positive = answer (by name)
    """
    reading, kinds, cells = look_at(path, source)
    return reading, kinds, cells, find_roles(kinds, source, cells, choose)


def find_roles(
    kinds: dict[str, str], source: Source, cells: Mapping[str, list[Any]], choose: Choose | None = None
) -> Roles:
    """Find the role of each column.

    Args:
        kinds: what each column holds.
        source: may set the columns.
        cells: of the first rows, by column.
        choose: gives the columns where the source does not set them; None finds them by name or by order.

    Raises:
        UsageError: if the roles cannot be decided, as `inbatch.data.formats.columns.resolve` does.

    Example:
        >>> from inbatch.data.sources import Source
        >>> kinds, cells = {"doc_id": "number", "en": "text", "de": "text"}, {"doc_id": [7], "en": ["tea"], "de": ["Tee"]}
        >>> print(find_roles(kinds, Source("drinks.csv"), cells))
        anchor = en; positive = de (by order; left out as identifiers: doc_id)
        >>> print(find_roles(kinds, Source("drinks.csv", columns={"anchor": "de"}), cells))
        anchor = de; positive = the same text (as set)
    """
    if source.columns is not None:
        said = spelled(source.columns, kinds)
        others = {"others": spelled(said["others"], kinds)} if isinstance(said.get("others"), Mapping) else {}
        return resolve(kinds, {**said, **others}, source.path)
    ids = dict(find_ids(cells))
    if choose is not None:
        return resolve(kinds, choose(kinds, ids), source.path)
    open_ = offered(kinds)
    # By order a third column would be hard negatives or a score; one that some rows lack, or fill with other things, is about them.
    further = [name for name in open_ if ids.get(name) != "ids"][2:]
    for name in further:
        if role_of(name) is None and any(_lacks(cell, open_[name]) for cell in cells.get(name, ())):
            open_[name] = OTHER
            ids.pop(name, None)
    return resolve(open_, None, source.path, ids)


def worked_out(
    source: Source, meanings: Sequence[Meaning], choose: Choose | None = None, depth: int = 3
) -> list[Meaning]:
    r"""Add to each meaning what else has to be said before its line can be read, and leave out those that cannot.

    Example:
        >>> from inbatch.data.sources import Source
        >>> _ = Path("menu.csv").write_text("green tea,250\ncold milk,120\n")
        >>> for meaning in worked_out(Source("menu.csv"), [("if the first line is a row", {"header": False})]):
        ...     print(*meaning)
        if the first line is a row and 1 holds identifiers {'header': False, 'columns': {'anchor': 0}}
        if the first line is a row and there are no identifiers {'header': False, 'columns': {'anchor': 0, 'positive': 1}}
    """
    path = Path(source.path).expanduser()
    if not path.is_file():
        return list(meanings)
    found: list[Meaning] = []
    for meaning, more in meanings:
        if "columns" in more and source.header is False:
            more = more | {"columns": by_number(more["columns"])}
        said = replace(source, **more)
        try:
            # Who chooses a column says it by an option of its own.
            look_at(path, said) if choose is not None else decide(path, said)
        except Doubt as doubt:
            if depth:
                for further, rest in worked_out(said, doubt.meanings, choose, depth - 1):
                    joined = (
                        meaning if further == "if this is meant" else f"{meaning} and {further.removeprefix('if ')}"
                    )
                    found.append((joined, more | rest))
        except UsageError:
            continue
        else:
            found.append((meaning, more))
    return found or list(meanings)


def _lacks(cell: Any, kind: str) -> bool:
    """Whether a cell is missing, blank, or nothing of the kind that its column holds."""
    if cell is None or not str(cell).strip():
        return True
    try:
        READ.get(kind, str)(cell)
    except (TypeError, ValueError):
        return True
    return False
