"""Load training texts from wherever they lie into one kind of table, memory-mapped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from inbatch.data.cache import cached_table
from inbatch.data.columns import NUMBER, TEXT, Roles, resolve
from inbatch.data.delimited import NA, Quotes
from inbatch.data.doubt import Doubt, Meaning
from inbatch.data.environment import environment_pairs, with_neighbours
from inbatch.data.files import DELIMITED, SUFFIXES, Reading, arrow_kind, first_cells, look, peek, read
from inbatch.data.ids import find_ids
from inbatch.data.tables import Table, View, count_cells, make_table
from inbatch.errors import MissingError, UsageError
from inbatch.hub import offline_if_unreachable

if TYPE_CHECKING:
    from datasets import Dataset

ENVIRONMENT = "environment"
_HUB = "hf://datasets/"
# Raise it when the same file is read into another table.
_VERSION = 2
_ROWS_PEEKED = 100
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


@dataclass
class Source:
    """Where rows come from, and what is made of them.

    Attributes:
        path: a txt (one sentence a line), csv, tsv, jsonl or parquet file; a folder written by ``Dataset.save_to_disk``; a data
            set of the Hugging Face hub (``owner/name``) or one file of it (``hf://datasets/owner/name/file.txt``); or
            ``environment``, the docstrings and code of the Python packages installed on this machine; ``columns`` may name its
            column ``neighbour``, too, another docstring of the anchor's module.
        columns: which column plays which role, ``{anchor: …, positive: …, negatives: […], score: …, instruction: …}``; columns left out are
            ignored. Numbers count the columns, from 0, of a csv or tsv file without a line of names. If not given, columns of identifiers
            are left out, names decide where every other column has a known one, and the order where none has.
        view: what a row becomes: ``same`` text twice, ``pair``, ``triplet`` with hard negatives, ``scored`` pair; ``auto`` takes
            every role that was found.
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
    """

    path: str
    columns: dict[str, str | int | list[str | int]] | None = None
    view: View = "auto"
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
        defaults = asdict(Source(""))
        return {name: value for name, value in asdict(self).items() if name != "path" and value != defaults[name]}


_READING = ("encoding", "delimiter", "quotes", "header")


def load(source: Source) -> Table:
    """Load a source, find the roles of its columns, and check its content.

    Raises:
        MissingError: if the file, folder or data set is not there.
        UsageError: if a setting does not fit the source, or its content is wrong; the message names the place.
    """
    try:
        rows, roles, how = _open(source)
    except Doubt as doubt:
        raise Doubt(source.path, doubt.why, _worked_out(source, doubt.meanings), source.given) from None
    if source.empty not in ("drop", "keep"):
        raise UsageError(f"{source.path}: expected empty to be drop or keep; got {source.empty!r}.")
    if source.instruction is not None and roles.instruction is not None:
        raise UsageError(
            f"{source.path}: expected an instruction or a column of instructions; got {source.instruction!r} and the column "
            f"{roles.instruction}. Drop the setting, or set columns to {roles.without_instruction}."
        )
    table = make_table(source.path, rows, roles, source.view, source.negatives, source.empty == "keep")
    if Path(source.path).suffix in DELIMITED and (count := count_cells(table.rows, table.roles.texts, NA)):
        how += f"; {count} cells such as NA, null, nan are texts (na_as_empty: true makes them empty)"
    return replace(table, instruction=source.instruction, how=how)


def _open(source: Source) -> tuple[Dataset, Roles, str]:
    if source.path.startswith(("{", "[")):  # what the command line could not read as a source, and took for a path
        names = ", ".join(field.name for field in fields(Source))
        raise UsageError(
            f"expected a path, or a source or list of sources with fields out of {names}; got {source.path[:200]}. Set data.sources as "
            "'--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}', in quotes and with a blank behind each colon and comma."
        )
    path = Path(source.path).expanduser()
    if source.path.startswith(_HUB):
        path = _hub_file(source.path)
    elif source.path == ENVIRONMENT:
        return _choose(_environment(source), source)
    elif path.is_dir():
        return _choose(_saved(path, source), source)
    elif not path.exists() and path.suffix not in SUFFIXES and _HUB_NAME.fullmatch(source.path):
        return _choose(_hub(source), source)
    if not path.exists():
        raise MissingError(
            f"expected a data file at {path.absolute()}; there is none. Check data.sources, or copy it there."
        )
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: expected a name that ends in {', '.join(SUFFIXES)}; got {path.suffix or 'no suffix'!r}."
        )
    if source.split is not None or source.subset is not None:
        raise UsageError(f"{path}: a file has no split and no subset. Remove these settings of the source.")
    if source.na_as_empty and path.suffix not in DELIMITED:
        raise UsageError(f"{path}: na_as_empty is a setting of csv and tsv files. Remove it from this source.")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: expected at least one row; the file is empty.")
    return _file(path, source)


def _environment(source: Source) -> Dataset:
    pairs = environment_pairs(source.split or "train")
    if source.columns is None:
        return pairs.select_columns(["anchor", "positive"])
    return with_neighbours(pairs).select_columns(["anchor", "positive", "neighbour"])


def _file(path: Path, source: Source) -> tuple[Dataset, Roles, str]:
    reading, kinds, roles = _decide(path, source)
    schema, batches = read(path, kinds, roles, reading, source.na_as_empty)
    state = path.stat()
    settings = [str(path.resolve()), roles.used, str(reading), source.na_as_empty]
    place = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    key = json.dumps([_VERSION, state.st_size, state.st_mtime_ns, str(schema)])
    return cached_table(f"file-{place}", key, schema, lambda: batches), roles, "" if reading is None else str(reading)


def _decide(path: Path, source: Source) -> tuple[Reading, dict[str, str], Roles]:
    """Decide from its first rows how a file is read, and which column plays which role."""
    numbered = {isinstance(i, int) for value in (source.columns or {}).values() for i in _listed(value)}
    if len(numbered) == 2 or (True in numbered and path.suffix not in DELIMITED):
        raise UsageError(
            f"{path}: columns are numbers for a csv or tsv file without a line of names, and names otherwise; got both."
        )
    reading = look(path, source.columns, **{name: getattr(source, name) for name in _READING})
    kinds = peek(path, reading)
    if path.suffix == ".txt":
        return reading, kinds, resolve(kinds, source.columns, source.path)
    return reading, kinds, resolve(kinds, source.columns, source.path, find_ids(first_cells(path, reading)))


def _worked_out(source: Source, meanings: Sequence[Meaning], depth: int = 3) -> list[Meaning]:
    """Add to each meaning what else has to be said before its line can be read, and leave out those that cannot."""
    path = Path(source.path).expanduser()
    if not path.is_file():
        return list(meanings)
    found: list[Meaning] = []
    for meaning, more in meanings:
        if "columns" in more and source.header is False:
            more = more | {"columns": {role: _as_number(name) for role, name in more["columns"].items()}}
        said = replace(source, **more)
        try:
            _decide(path, said)
        except Doubt as doubt:
            if depth:
                for further, rest in _worked_out(said, doubt.meanings, depth - 1):
                    joined = (
                        meaning if further == "if this is meant" else f"{meaning} and {further.removeprefix('if ')}"
                    )
                    found.append((joined, more | rest))
        except UsageError:
            continue
        else:
            found.append((meaning, more))
    return found or list(meanings)


def _as_number(name: Any) -> Any:
    return [_as_number(item) for item in name] if isinstance(name, list) else int(name)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _choose(rows: Dataset, source: Source) -> tuple[Dataset, Roles, str]:
    """Resolve the columns of a table that is Arrow already, and keep those that have a role."""
    if said := [name for name in (*_READING, "na_as_empty") if name in source.given]:
        raise UsageError(f"{source.path}: {said[0]} is a setting of text files. Remove it from this source.")
    rows = rows.with_format(None)
    kinds = {field.name: arrow_kind(field.type) for field in rows.features.arrow_schema}
    cells = rows.select_columns([name for name, kind in kinds.items() if kind in (TEXT, NUMBER)])[:_ROWS_PEEKED]
    roles = resolve(kinds, source.columns, source.path, find_ids(cells))
    return rows.select_columns(list(roles.used)), roles, ""


def _saved(path: Path, source: Source) -> Dataset:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
    except (FileNotFoundError, ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"{path}: expected a folder written by Dataset.save_to_disk; {str(error).splitlines()[0]}. To read a file in the "
            "folder, name the file."
        ) from None
    if not isinstance(found, DatasetDict):
        if source.split is not None:
            raise UsageError(f"{path}: holds one table without splits. Remove split = {source.split} of the source.")
        return found
    split = source.split or "train"
    if split not in found:
        raise UsageError(
            f"{path}: there is no split {split}; the splits are {', '.join(map(str, found))}. Set split of the source."
        )
    return found[split]


def _hub(source: Source) -> Dataset:
    from datasets import load_dataset

    split = source.split or "train"
    arguments = [repr(source.path), *([repr(source.subset)] if source.subset else [])]
    command = f'python -c "from datasets import load_dataset; load_dataset({", ".join(arguments)})"'
    try:
        with offline_if_unreachable():
            return load_dataset(source.path, source.subset, split=split)
    except ValueError as error:  # an unknown subset or split; the message lists those that there are
        raise UsageError(
            f"{source.path}: {' '.join(str(error).split())[:300]}. Set split and subset of the source."
        ) from None
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"{source.path} is neither a file or folder here nor a data set that can be fetched now ({_first_line(error)}). "
            f"Where there is a network, fetch it with: {command}"
        ) from error


def _hub_file(address: str) -> Path:
    from huggingface_hub import hf_hub_download

    parts = address.removeprefix(_HUB).split("/")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    if len(parts) < 3 or not all(parts):
        raise UsageError(f"expected {_HUB}OWNER/NAME/FILE; got {address}. A whole data set is written OWNER/NAME.")
    try:
        with offline_if_unreachable():
            return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise MissingError(
            f"{file} of the data set {repository} is not on this machine and cannot be fetched now ({_first_line(error)}). "
            f"Where there is a network, fetch it with: hf download --repo-type dataset {repository} {file}"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def as_sources(sources: str | Source | list[str | Source]) -> list[Source]:
    """Accept a path, a source, or a list of either."""
    items = sources if isinstance(sources, list) else [sources]
    if not items:
        raise UsageError("expected at least one source in data.sources; the list is empty.")
    return [item if isinstance(item, Source) else Source(item) for item in items]
