"""Queries, documents and corpora of evaluation and search, from every source that training reads."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inbatch.errors import UsageError
from inbatch.experiments.command import read_lines

if TYPE_CHECKING:
    from datasets import Dataset

    from inbatch.data.formats.columns import Roles
    from inbatch.data.formats.ids import Likeness
    from inbatch.data.sources.deciding import Choose
    from inbatch.data.sources.sources import Source


@dataclass(frozen=True)
class Judged:
    """Rows of a query and the documents that answer it.

    Attributes:
        name: of the source, short.
        queries: one a row.
        documents: those that answer the row's query, one or several.
        others: documents that answer no query of their row: hard negatives.
        near_duplicate: whether a row's document resembles a training document; None where the source does not say.
        scores: one a row, how well the documents answer the query; None where the source has none, and all do.

    Example:
        >>> rows = Judged("weather", ["fog"], documents=[["a cloud on the ground"]], others=["a kind of wine"], near_duplicate=None)
        >>> dict(zip(rows.queries, rows.documents))
        {'fog': ['a cloud on the ground']}
    """

    name: str
    queries: list[str]
    documents: list[list[str]]
    others: list[str]
    near_duplicate: list[bool] | None
    scores: list[float] | None = None


@dataclass(frozen=True)
class Corpus:
    """Texts to search, each once, and where each lies.

    Example:
        >>> corpus = Corpus(["a cloud on the ground", "moving air"], ["row 0", "row 2"])
        >>> corpus.places[corpus.texts.index("moving air")]
        'row 2'
    """

    texts: list[str]
    places: list[str]


def read_judged(source: str | Source, split: str | None = None, limit: int | None = None) -> Judged:
    r"""Read the first ``limit`` rows of a source as queries and documents.

    Args:
        source: a path or name, or a `Source` where columns have to be said.
        split: of the source, in place of its own.
        limit: rows at most; None takes all.

    Raises:
        MissingError: if the source is not there.
        UsageError: if its rows are no pairs, or the limit is below 1.

    Example:
        >>> _ = Path("weather.csv").write_text("anchor,positive,negative\nfog,a cloud,a wine\nwind,moving air,a watch\n")
        >>> rows = read_judged("weather.csv")
        >>> rows.queries, rows.documents, rows.others
        (['fog', 'wind'], [['a cloud'], ['moving air']], ['a wine', 'a watch'])
    """
    from inbatch.data.sources.sources import ENVIRONMENT

    source = _source(source, split)
    if source.path == ENVIRONMENT:
        rows = _environment(source.split or "validation")
        part = _first(rows, limit)[:]
        return Judged(ENVIRONMENT, part["anchor"], [[text] for text in part["positive"]], [], part["near_duplicate"])
    rows, roles = _load(source)
    if roles.positive is None:
        raise UsageError(
            f"{source.path}: expected a column of queries and one of documents; got {roles}. Set columns to "
            "{anchor: NAME, positive: NAME}."
        )
    part = _first(rows, limit)[:]
    negatives = [text for name in roles.negatives for cell in part[name] for text in _listed(cell)]
    name = Path(source.path.rstrip("/")).stem
    # Of scores that each candidate has, that of the positive stands first.
    scores = None
    if roles.scores:
        scores = [float(cell[0] if isinstance(cell, list) else cell) for cell in part[roles.scores[0]]]
    return Judged(name, part[roles.anchor], [_listed(cell) for cell in part[roles.positive]], negatives, None, scores)


def read_corpus(source: str | Source, split: str | None = None, limit: int | None = None) -> Corpus:
    r"""Read the documents of a source: the positives of pairs, else the texts themselves; blank ones are left out.

    The arguments are those of `read_judged`; the split ``all`` of ``environment`` is its three splits together, and its default.

    Raises:
        MissingError: if the source is not there.
        UsageError: if it holds no text, or the limit is below 1.

    Example:
        >>> _ = Path("weather.csv").write_text("anchor,positive\nfog,a cloud\nmist,a cloud\nwind,moving air\n")
        >>> read_corpus("weather.csv")
        Corpus(texts=['a cloud', 'moving air'], places=['row 0', 'row 2'])
    """
    from inbatch.data.sources.sources import ENVIRONMENT

    source = _source(source, split)
    if source.path == ENVIRONMENT:
        part = _first(_environment(source.split or "all"), limit)[:]
        places = [
            f"{module}.{name}  {file}:{line}"
            for module, name, file, line in zip(part["module"], part["name"], part["file"], part["line"])
        ]
        return Corpus(part["positive"], places)
    # Rows with blank texts stay until here, so that the numbers are those of the file.
    rows, roles = _load(replace(source, empty="keep"))
    cells = _first(rows, limit)[:][roles.positive or roles.anchor]
    found: dict[str, str] = {}
    for number, cell in enumerate(cells):
        for text in _listed(cell):
            if text.strip():
                found.setdefault(text, f"row {number}")
    if not found:
        raise UsageError(f"{source.path}: expected texts to search; all are blank.")
    return Corpus(list(found), list(found.values()))


def read_texts(source: str | Source, column: str | None = None) -> list[str]:
    r"""Read one text a row, blank ones too: the lines of a text file or of stdin (``-``), or one column of a table.

    A blank line of a text file is a row; one of a csv or tsv file is none, also where it has a single column.

    Args:
        source: a file; what does not end as a table does is read as lines. A `Source` may say how it is read; of its columns the anchor
            is taken.
        column: its name, or its number in a csv or tsv file without a line of names; None takes the anchor of the source, else the only
            column that holds texts.

    Raises:
        MissingError: if there is no such file.
        UsageError: if it cannot be read, or holds several columns of texts and none is named.

    Example:
        >>> _ = Path("weather.txt").write_text("what is fog\n\nwhat is wind\n")
        >>> read_texts("weather.txt")
        ['what is fog', '', 'what is wind']
        >>> _ = Path("weather.csv").write_text("anchor,positive\nwhat is fog,a cloud\nwhat is wind,moving air\n")
        >>> read_texts("weather.csv", column="positive")
        ['a cloud', 'moving air']
    """
    from inbatch.data.formats.files import SUFFIXES
    from inbatch.data.formats.opening import suffix_of

    source = _source(source, None)
    path = source.path
    there = path != "-" and Path(path).is_file()
    lined = suffix_of(path) == ".txt" or suffix_of(path) not in SUFFIXES
    if path == "-" or (not source.given and (lined or not there)):
        settings = [*([f"--column {column}"] if column is not None else []), *source.given]
        if settings and (there or path == "-"):
            raise UsageError(
                f"expected a table for {', '.join(settings)}; {path} is read line by line. Leave {settings[0].split()[0]} out."
            )
        return read_lines(path)
    if column is not None:
        source = replace(source, columns={"anchor": int(column) if column.isdecimal() else column})
    rows, roles = _load(replace(source, empty="keep"), lambda kinds, ids: _only_texts(path, kinds, ids))
    return [text or "" for text in rows[roles.anchor]]


def _only_texts(path: str, kinds: Mapping[str, str], ids: Mapping[str, Likeness]) -> dict[str, Any]:
    """Choose the only column of texts, else of numbers, that holds no identifiers."""
    from inbatch.data.formats.columns import DIGITS, NUMBER, TEXT

    names = [name for name in kinds if ids.get(name) != "ids"]
    texts = [name for name in names if kinds[name] == TEXT] or [n for n in names if kinds[n] in (DIGITS, NUMBER)]
    if len(texts) != 1:
        line = f": --column {shlex.quote(texts[0])}" if texts else " with --column NAME, or give a file of lines."
        raise UsageError(f"expected the column of texts in {path}; it holds {', '.join(kinds)}. Say which it is{line}")
    return {"anchor": texts[0]}


def _source(source: str | Source, split: str | None) -> Source:
    from inbatch.data.sources.sources import Source

    source = source if isinstance(source, Source) else Source(source)
    return source if split is None else replace(source, split=split)


def _load(source: Source, choose: Choose | None = None) -> tuple[Dataset, Roles]:
    from inbatch.data.sources.sources import load

    table = load(source, choose)
    return table.rows, table.roles


def _environment(split: str) -> Dataset:
    from datasets import concatenate_datasets

    from inbatch.data.sources.environment import SPLITS, environment_pairs

    if split == "all":
        return concatenate_datasets([environment_pairs(part) for part in SPLITS])
    return environment_pairs(split)


def _first(rows: Dataset, limit: int | None) -> Dataset:
    if limit is not None and limit < 1:
        raise UsageError(f"expected a limit of at least 1 row; got {limit}. Set limit.")
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _listed(cell: Any) -> list[str]:
    return [cell] if isinstance(cell, str) else [text for text in cell or [] if text is not None]


def add_source_arguments(parser: argparse.ArgumentParser, name: str, splits: str) -> None:
    """Declare the positional argument ``name`` for the source, and how it is read; ``splits`` explains the default split.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_source_arguments(parser, "corpus", "train")
        >>> args = parser.parse_args(["articles.csv", "--limit", "100", "--columns", "anchor=title", "positive=body"])
        >>> args.source, args.limit, args.columns
        ('articles.csv', 100, ['anchor=title', 'positive=body'])
    """
    parser.add_argument(
        "source",
        metavar=name.upper(),
        help="txt, csv, tsv, jsonl, json or parquet file, also compressed (.gz, .zst, .bz2), folder of a saved data set, data set of the "
        "Hugging Face hub, or `environment`: docstrings and code of the Python packages installed here; or in braces how it is read, as "
        "in inbatch fit, e.g. '{path: a.csv, delimiter: semicolon}'",
    )
    parser.add_argument("--split", help=f"split of a data set or of environment (default: {splits})")
    parser.add_argument("--limit", type=int, metavar="ROWS", help="take the first rows only (default: all)")
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="ROLE=NAME",
        help="roles of columns whose names do not say them, e.g. anchor=title positive=body; several negatives by commas; "
        "a number counts the columns, from 0, of a csv or tsv file without a line of names",
    )


def source_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `read_judged` and `read_corpus` from those that `add_source_arguments` declared.

    Raises:
        UsageError: if ``--columns`` is not made of ROLE=NAME, or what stands in braces is no source.

    Example:
        >>> args = argparse.Namespace(source="articles.csv", split=None, limit=100, columns=["anchor=title", "negatives=2,3"])
        >>> found = source_arguments(args)
        >>> found["source"].path, found["source"].columns, found["limit"]
        ('articles.csv', {'anchor': 'title', 'negatives': [2, 3]}, 100)
    """

    columns: dict[str, Any] = {}
    for item in args.columns or []:
        role, equals, name = item.partition("=")
        if not (role and equals and name) or role in columns:
            raise UsageError(f"expected --columns ROLE=NAME, each role once; got {item!r}.")
        names = [int(part) if part.isdecimal() else part for part in name.split(",")]
        columns[role] = names if role == "negatives" else name if len(names) > 1 else names[0]
    source = in_braces(args.source)
    return {"source": replace(source, columns=columns or source.columns), "split": args.split, "limit": args.limit}


def in_braces(text: str) -> Source:
    """Read ``{path: …, …}`` as a source, as ``inbatch fit`` does; anything else is its path.

    Raises:
        UsageError: if what stands in braces is no source.

    Example:
        >>> source = in_braces("{path: weather.csv, delimiter: semicolon}")
        >>> source.path, source.delimiter
        ('weather.csv', 'semicolon')
        >>> in_braces("weather.csv").path
        'weather.csv'
    """
    from inbatch.data.sources.sources import Source

    if not text.startswith("{"):
        return Source(text)
    from jsonargparse import ArgumentParser

    from inbatch.run.parser_errors import explain

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=Source)
    try:
        return Source(**parser.parse_args([f"--source={text}"]).source.as_dict())
    except argparse.ArgumentError as error:
        why = str(explain(error, [f"source.{field.name}" for field in fields(Source)]))
        why = re.sub(r"^source: Unable to load config .* - (?=source)", "", why).replace("source.", "")
        why = "path is missing" if "are required" in str(error) else why
        raise UsageError(
            f"expected a path, or a source as '{{path: FILE, delimiter: semicolon}}' with a blank behind each colon and comma; got {text}: "
            f"{why}"
        ) from None
