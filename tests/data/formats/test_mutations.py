"""A file written in some other way ends in the same pairs, or in a refusal whose line, typed, gives them; never in something else."""

from __future__ import annotations

import csv
import io
import shlex
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.sources import Source, as_sources, load
from inbatch.errors import UsageError
from inbatch.run.config import keep_path

CHARACTERS = "abcXYZ019 ,;|\t\"'.?!\\-éß你好吗，。句مرحبا\n\r"
WORDS = [
    "hund",
    "dog",
    "Ein Satz.",
    "A man is playing a guitar.",
    "你好",
    "今天天气很好。",
    "كيف حالك؟",
    "answer",
    "query",
    "7",
    "0,5",
    "NA",
]
texts = st.one_of(
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).map(" ".join),
    st.text(CHARACTERS, min_size=1, max_size=12).filter(lambda text: text.strip()),
)


@dataclass
class File:
    """A mutated file and what it means.

    Attributes:
        name: with its suffix.
        content: bytes.
        rows: anchor and positive, and the score where there is one.
    """

    name: str
    content: bytes
    rows: list[tuple[Any, ...]]


@st.composite
def files(draw: st.DrawFn) -> File:
    rows: list[tuple[str, ...]] = draw(
        st.lists(st.tuples(texts, texts), min_size=1, max_size=draw(st.sampled_from([3, 12, 30])))
    )
    delimiter = draw(st.sampled_from(",;\t|"))
    quoting = draw(st.sampled_from(["minimal", "all", "nonnumeric", "backslash", "text"]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    scores: list[str] | None = None
    if draw(st.booleans()):
        numbers = draw(st.lists(st.integers(0, 50), min_size=len(rows), max_size=len(rows)))
        form = draw(st.sampled_from(["{:.1f}", "{:.0f}", "comma"]))
        scores = [f"{n / 10:.1f}".replace(".", ",") if form == "comma" else form.format(n / 10) for n in numbers]
    header = draw(st.sampled_from(["known", "unknown", "none"]))
    names = {"known": ["anchor", "positive", "score"], "unknown": ["satz", "句子", "wert"], "none": ["", "", ""]}[
        header
    ]
    columns = [[row[0] for row in rows], [row[1] for row in rows], *([scores] if scores else [])]
    table = list(zip(names, columns))
    if header == "known":
        table = draw(st.permutations(table))
    ids = draw(st.sampled_from(["none", "none", "index", "uuid", "integers", "tokens"]))
    if ids != "none":
        found = {
            "index": [str(i) for i in range(len(rows))],
            "uuid": [str(uuid.UUID(int=i * 7919 + 3)) for i in range(len(rows))],
            "integers": [str(10_007 + 31 * i) for i in range(len(rows))],
            "tokens": [f"q{i}-x" for i in range(len(rows))],
        }[ids]
        name = draw(
            st.sampled_from(["id", "doc_id", "", "Unnamed: 0"] if ids in ("index", "integers") else ["id", "uuid"])
        )
        table = [("" if header == "none" else name, found), *table]
    lines = [list(row) for row in zip(*(column for _, column in table))]
    if header != "none":
        lines.insert(0, [name for name, _ in table])
    cells = [cell for line in lines for cell in line]
    if quoting == "text":
        assume(not any(mark in cell for cell in cells for mark in (delimiter, "\n")))
        assume(not any(cell.startswith('"') for cell in cells) or delimiter == "\t")
        # Such bytes are those of enclosed cells.
        assume(not any(cell.startswith('"') and cell.endswith('"') for cell in cells))
    # Without an escaped quotation mark nothing says that a backslash is no text.
    assume(quoting != "backslash" or not any("\\" in cell for cell in cells))
    # A carriage return at the end of a line is part of its end, also where a writer does not enclose the cell.
    assume(not any(line[-1].endswith("\r") for line in lines))
    if ends == "\r":
        assume(not any(mark in cell for cell in cells for mark in "\r\n"))
    text = write(lines, delimiter, quoting, ends)
    if draw(st.booleans()) and len(lines) > 1:
        text = text.removesuffix(ends)
    if draw(st.sampled_from([False, False, True])):
        text = f"sep={delimiter}{ends}{text}"
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]))
    if encoding == "cp1252":
        assume(all(ord(character) < 256 for character in text))
    suffix = "tsv" if delimiter == "\t" and draw(st.booleans()) else "csv"
    meant = [(*row, float(score.replace(",", "."))) for row, score in zip(rows, scores)] if scores else rows
    return File(f"a.{suffix}", text.encode(encoding), list(meant))


def write(lines: list[list[str]], delimiter: str, quoting: str, ends: str) -> str:
    if quoting == "text":
        return "".join(delimiter.join(line) + ends for line in lines)
    out = io.StringIO()
    options: dict[str, Any] = {"delimiter": delimiter, "lineterminator": ends}
    if quoting == "nonnumeric":
        options["quoting"] = csv.QUOTE_ALL  # numbers come as text here: those without quotes are left to "minimal"
    if quoting == "all":
        options["quoting"] = csv.QUOTE_ALL
    if quoting == "backslash":
        options |= {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}
    csv.writer(out, **options).writerows(lines)
    return out.getvalue()


def pairs(source: Source) -> list[tuple[Any, ...]]:
    table = load(source)
    roles = table.roles
    columns = [name for name in (roles.anchor, roles.positive, *roles.negatives, roles.score) if name is not None]
    return list(zip(*(table.rows[name][:] for name in columns)))


def outcome(source: Source) -> tuple[list[tuple[Any, ...]], str]:
    """Read pairs, or say why not."""
    try:
        return pairs(source), ""
    except UsageError as error:
        return [], str(error)


PARSER = ArgumentParser(exit_on_error=False)
PARSER.add_class_arguments(EmbeddingDataModule, "data")


def typed(line: str) -> Source:
    """Read a line as `inbatch fit` does."""
    parsed = PARSER.parse_args(keep_path([line, "--data.batch_size=2"]))
    (source,) = as_sources(PARSER.instantiate_classes(parsed).data.sources)
    return source


def lines_in(message: str) -> list[str]:
    found = []
    for rest in message.split(" '--data.sources=")[1:]:
        lexer = shlex.shlex(f"'--data.sources={rest}", posix=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        found.append(next(lexer).removesuffix(";"))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations")


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(file=files())
def test_a_mutated_file_gives_the_same_pairs_or_the_line_that_does(folder: Path, file: File):
    path = folder / file.name
    path.write_bytes(file.content)
    found, refusal = outcome(Source(str(path)))
    if not refusal:
        assert found == file.rows, file.content
        return
    outcomes = [outcome(typed(line)) for line in lines_in(refusal)]
    assert (file.rows, "") in outcomes, f"{refusal}\n{outcomes}\n{file.content!r}"
