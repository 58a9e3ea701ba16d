"""Load training texts from wherever they lie into one kind of table, memory-mapped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from inbatch.cache import cached_table
from inbatch.data.formats.arrow import cells_of, class_names, convert, is_plain, is_valid, schema_kinds, tops
from inbatch.data.formats.cells import ARROW, ROWS_A_BATCH, MixedColumn
from inbatch.data.formats.columns import NUMBER, TEXT, TEXTS, Roles
from inbatch.data.formats.delimited import NA, Quotes
from inbatch.data.formats.doubt import Doubt
from inbatch.data.formats.files import DELIMITED, SUFFIXES, Parquet, read, wanted_kinds
from inbatch.data.formats.opening import COMPRESSIONS, compression_of, suffix_of
from inbatch.data.sources.deciding import READING, Choose, decide, find_roles, worked_out
from inbatch.data.sources.environment import environment_pairs, with_neighbours
from inbatch.data.sources.fetching import HUB, fetch_file, open_hub, open_saved
from inbatch.data.sources.fingerprint import file_fingerprint
from inbatch.data.sources.tables import Table, count_cells, make_table
from inbatch.data.views.named import View
from inbatch.data.views.row_view import RowView
from inbatch.errors import MissingError, UsageError

if TYPE_CHECKING:
    from datasets import Dataset

ENVIRONMENT = "environment"
# Raise it when the same file is read into another table.
_VERSION = 3
_ROWS_PEEKED = 100
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


@dataclass
class Source:
    """Where rows come from, and what is made of them.

    Attributes:
        path: a txt (one sentence a line), csv, tsv, jsonl, json or parquet file, also compressed (.gz, .zst, .bz2); a folder written
            by ``Dataset.save_to_disk``; a data set of the Hugging Face hub (``owner/name``) or one file of it
            (``hf://datasets/owner/name/file.txt``); or ``environment``, the docstrings and code of the Python packages installed
            on this machine; ``columns`` may name its column ``neighbour``, too, another docstring of the anchor's module.
        columns: which column plays which role, ``{anchor: …, positive: …, negatives: […], score: …, instruction: …, label: …, others:
            {context: …}}``; ``score`` may name a column a candidate, or one of lists; the others are further texts. Columns left out are
            ignored. Numbers count the columns, from 0, of a csv or tsv file without a line of names. If not given, columns of identifiers
            are left out, names decide where every other column has a known one, and the order where none has.
        view: what a row becomes: ``same`` text twice, ``pair``, ``triplet`` with hard negatives, ``scored`` pair; ``auto`` takes
            every role that was found; or ``{class_path: …, init_args: {…}}``, a `RowView`.
        negatives: hard negatives a row where a column holds lists of them; drawn anew at each visit. As many as every row has,
            if not given.
        weight: factor of this source's share in a mixture.
        split: which split of a data set, and of ``environment``: train where not given.
        subset: the configuration of a hub data set, for those that have several.
        instruction: what the rows of this source ask for, in the place of a column of instructions; prompts take it at
            ``{instruction}``.
        empty: what happens to rows with an empty text: ``drop``, or ``keep``, as SimCSE's released code does, where the tokenizer
            sees one space.
        encoding: of a text file, as Python names it (cp1252, utf-16-le, gb18030, …). If not given, a byte order mark says it, and without
            one it is UTF-8.
        delimiter: what stands between the cells of a csv or tsv file: one character, or ``comma``, ``semicolon``, ``tab``, ``pipe``. If not
            given, the first rows decide, or Excel's line ``sep=``.
        quotes: what double quotes mean in a csv or tsv file: they enclose cells, and those inside are doubled (``double``) or stand behind
            a ``backslash``, or they are ``text``. If not given, the first rows decide.
        header: whether the first line of a csv or tsv file names the columns. If not given, known names and the first rows decide.
        na_as_empty: in a csv or tsv file, take NA, N/A, None, null, nan and the like for empty texts, as pandas and with it the released
            codes do; else they are texts.

    Example:
        >>> Source("faq.csv", columns={"anchor": "question"}, delimiter="tab", weight=1.0).given
        {'columns': {'anchor': 'question'}, 'delimiter': 'tab'}
    """

    path: str
    columns: dict[str, str | int | list[str | int] | dict[str, str | int]] | None = None
    view: View | RowView = "auto"
    negatives: int | None = None
    weight: float = 1.0
    split: str | None = None
    subset: str | None = None
    empty: Literal["drop", "keep"] = "drop"
    instruction: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotes: Quotes | None = None
    header: bool | None = None
    na_as_empty: bool = False

    @property
    def given(self) -> dict[str, Any]:
        """The settings beside the path that are not the defaults."""
        found = {
            field.name: (getattr(self, field.name), field.default) for field in fields(self) if field.name != "path"
        }
        found = {name: value for name, (value, default) in found.items() if value != default}
        return found | ({"view": self.view.spelled} if isinstance(self.view, RowView) else {})


def load(source: Source, choose: Choose | None = None) -> Table:
    """Load a source, find the roles of its columns, and check its content.

    Args:
        source: where the rows come from, and what is made of them.
        choose: gives the columns where the source does not say them; None finds them by name or by order.

    Raises:
        MissingError: if the file, folder or data set is not there.
        UsageError: if a setting does not fit the source, or its content is wrong; the message names the place.

    Example:
        >>> from datasets import Dataset
        >>> Dataset.from_dict({"question": ["Do you ship?", ""], "answer": ["Yes.", "No."]}).save_to_disk("faq")
        >>> table = load(Source("faq"))
        >>> print(table.roles, len(table), table.dropped, sep="; ")
        anchor = question; positive = answer (by name); 1; 1
    """
    try:
        rows, roles, how = _open(source, choose)
    except Doubt as doubt:
        meanings = worked_out(source, doubt.meanings, choose)
        raise Doubt(source.path, doubt.why, meanings, source.given) from None
    if source.empty not in ("drop", "keep"):
        raise UsageError(f"{source.path}: expected empty to be drop or keep; got {source.empty!r}.")
    if source.instruction is not None and roles.instruction is not None:
        raise UsageError(
            f"{source.path}: expected an instruction or a column of instructions; got {source.instruction!r} and the column "
            f"{roles.instruction}. Drop the setting, or set columns to {roles.without_instruction}."
        )
    try:
        table = make_table(
            source.path, rows, roles, source.view, source.negatives, source.empty == "keep", source.instruction
        )
    except Doubt as doubt:
        given = {name: value for name, value in source.given.items() if name != "negatives"}
        raise Doubt(source.path, doubt.why, doubt.meanings, given) from None
    if suffix_of(source.path) in DELIMITED and (count := count_cells(table.rows, table.roles.texts, NA)):
        how += f"; {count} cells such as NA, null, nan are texts (na_as_empty: true makes them empty)"
    return replace(table, how=how)


def _open(source: Source, choose: Choose | None) -> tuple[Dataset, Roles, str]:
    if source.path.startswith(("{", "[")):  # what the command line could not read as a source, and took for a path
        names = ", ".join(field.name for field in fields(Source))
        raise UsageError(
            f"expected a path, or a source or list of sources with fields out of {names}; got {source.path[:200]}. Set data.sources as "
            "'--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}', in quotes and with a blank behind each colon and comma."
        )
    path = Path(source.path).expanduser()
    if source.path.startswith(HUB):
        path = fetch_file(source.path)
    elif source.path == ENVIRONMENT:
        return _arrow(_environment(source), source, choose)
    elif path.is_dir():
        return _arrow(open_saved(path, source.split), source, choose)
    elif not path.exists() and suffix_of(path) not in SUFFIXES and _HUB_NAME.fullmatch(source.path):
        return _arrow(open_hub(source.path, source.subset, source.split), source, choose)
    if not path.exists():
        raise MissingError(
            f"expected a data file at {path.absolute()}; there is none. Check data.sources, or copy it there."
        )
    if suffix_of(path) not in SUFFIXES:
        raise UsageError(
            f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, where compressed with one of {', '.join(COMPRESSIONS)} behind; "
            f"got {path.suffix or 'no suffix'!r}."
        )
    if source.split is not None or source.subset is not None:
        raise UsageError(f"{path}: a file has no split and no subset. Remove these settings of the source.")
    if source.na_as_empty and suffix_of(path) not in DELIMITED:
        raise UsageError(f"{path}: na_as_empty is a setting of csv and tsv files. Remove it from this source.")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: expected at least one row; the file is empty.")
    return _file(path, source, choose)


def _environment(source: Source) -> Dataset:
    pairs = environment_pairs(source.split or "train")
    if source.columns is None:
        return pairs.select_columns(["anchor", "positive"])
    return with_neighbours(pairs).select_columns(["anchor", "positive", "neighbour"])


def _file(path: Path, source: Source, choose: Choose | None) -> tuple[Dataset, Roles, str]:
    reading, kinds, cells, roles = decide(path, source, choose)
    while True:
        schema, batches = read(path, kinds, roles, reading, source.na_as_empty)
        state = path.stat()
        # All that was decided, not only what is shown: with another setting a row may be refused that this one takes.
        settings = [str(path.resolve()), roles.used, repr(reading), source.na_as_empty]
        place = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        # Copying tools keep size and time where they are told to; the content tells files apart.
        key = json.dumps([_VERSION, file_fingerprint(path), state.st_mtime_ns, roles.how, str(schema)])
        try:
            rows = cached_table(f"file-{place}", key, schema, lambda found=batches: found)
        except MixedColumn as column:  # at a row behind those that were looked at
            kinds[column.name] = TEXTS
            roles = find_roles(kinds, source, cells, choose)
        else:
            break
    labels = class_names(reading.file.schema_arrow) if isinstance(reading, Parquet) else {}
    compression = compression_of(path)
    how = [str(reading), f"decompressed: {compression}" if compression else "", *_notes(kinds, labels, roles)]
    return rows, roles, "; ".join(filter(None, how))


def _notes(kinds: Mapping[str, str], labels: Mapping[str, list[str]], roles: Roles) -> list[str]:
    """Say which columns are read as something else than they hold."""
    return [
        f"{name}: {'classes, read as their names' if name in labels else 'numbers, read as texts'}"
        for name in roles.used
        if kinds[name] == NUMBER and (name in roles.texts or (name == roles.label and name in labels))
    ]


def _arrow(rows: Dataset, source: Source, choose: Choose | None) -> tuple[Dataset, Roles, str]:
    """Resolve the columns of a table that is Arrow already, and keep those that have a role."""
    if said := [name for name in (*READING, "na_as_empty") if name in source.given]:
        raise UsageError(f"{source.path}: {said[0]} is a setting of text files. Remove it from this source.")
    rows = rows.with_format(None)
    whole = rows.features.arrow_schema
    kinds = schema_kinds(whole)
    flat = [name for name in whole.names if kinds[name] in (TEXT, NUMBER)]
    cells = cells_of(rows.select_columns(flat).with_format("arrow")[:_ROWS_PEEKED]) if flat else {}
    roles = find_roles(kinds, source, cells, choose)
    how = "; ".join(_notes(kinds, class_names(whole), roles))
    wanted = wanted_kinds(kinds, roles)
    if is_plain(whole, wanted) and is_valid(rows.data, roles.texts):
        return rows.select_columns(list(roles.used)), roles, how
    schema = pa.schema({name: ARROW[kind] for name, kind in wanted.items()})
    settings = [source.path, source.split, source.subset, roles.used]
    place = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def make() -> Iterator[pa.RecordBatch]:
        tables = rows.select_columns(tops(wanted, whole.names)).with_format("arrow").iter(ROWS_A_BATCH)
        return convert(source.path, tables, whole, wanted, schema)

    return (
        cached_table(f"set-{place}", json.dumps([_VERSION, rows._fingerprint, str(schema)]), schema, make),
        roles,
        how,
    )


def as_sources(sources: Any) -> list[Source]:
    """Accept a path, a source, the fields of one, or a list of these.

    Example:
        >>> [(source.path, source.weight) for source in as_sources(["faq.csv", {"path": "shop.jsonl", "weight": 2.0}])]
        [('faq.csv', 1.0), ('shop.jsonl', 2.0)]
    """
    items = sources if isinstance(sources, list) else [sources]
    if not items:
        raise UsageError("expected at least one source in data.sources; the list is empty.")
    items = [{"path": item} if isinstance(item, str) else item for item in items]
    return [item if isinstance(item, Source) else Source(**item) for item in items]
