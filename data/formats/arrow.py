"""Tables that are Arrow already: what their columns hold, and their conversion to texts, lists of texts and numbers."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from inbatch.data.formats.cells import ARROW, Literal, Row, batches
from inbatch.data.formats.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS
from inbatch.data.formats.opening import compression_of, open_bytes, through, unpacked
from inbatch.errors import UsageError

# A compressed parquet file is read into memory, since it is not read from its beginning to its end.
LARGEST_COMPRESSED = 1 << 30
_is: Any = pa.types
_TEXTS = (
    _is.is_string,
    _is.is_large_string,
    _is.is_string_view,
    _is.is_binary,
    _is.is_large_binary,
    _is.is_binary_view,
)
_LISTS = (_is.is_list, _is.is_large_list, _is.is_fixed_size_list, _is.is_list_view, _is.is_large_list_view)
_NUMBERS = (_is.is_integer, _is.is_floating, _is.is_decimal, _is.is_boolean)


def arrow_kind(arrow: Any) -> str:
    """Name what an Arrow type holds, as `inbatch.data.formats.columns` does.

    Example:
        >>> [arrow_kind(kind) for kind in (pa.large_string(), pa.list_(pa.string()), pa.bool_(), pa.date32())]
        ['text', 'list of texts', 'number', 'neither text nor number']
    """
    arrow = _stored(arrow)
    if any(fits(arrow) for fits in _TEXTS):
        return TEXT
    if any(fits(arrow) for fits in _LISTS):
        return TEXTS if arrow_kind(arrow.value_type) == TEXT else OTHER
    return NUMBER if _is_number(arrow) else OTHER


def schema_kinds(schema: pa.Schema) -> dict[str, str]:
    """Name what each column holds, and behind it what its fields hold, by dotted names.

    Example:
        >>> schema_kinds(pa.schema({"translation": pa.struct({"en": pa.string(), "de": pa.string()})}))
        {'translation': 'neither text nor number', 'translation.en': 'text', 'translation.de': 'text'}
    """
    found: dict[str, str] = {}
    for field in schema:
        found[field.name] = arrow_kind(field.type)
        nested = {f"{field.name}.{name}": arrow for name, arrow in _fields(field.type)}
        found |= {name: arrow_kind(arrow) for name, arrow in nested.items() if name not in schema.names}
    return found


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the classes whose numbers a column holds, where the library `datasets` has written them down.

    Example:
        >>> from datasets import ClassLabel, Features, Value
        >>> features = Features({"review": Value("string"), "stars": ClassLabel(names=["bad", "good"])})
        >>> class_names(features.arrow_schema)
        {'stars': ['bad', 'good']}
    """
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import ClassLabel, Features

    try:
        features = Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError):  # of a version that has other features; the types alone decide then
        return {}
    return {name: feature.names for name, feature in features.items() if isinstance(feature, ClassLabel)}


def cells_of(table: Any) -> dict[str, list[Any]]:
    """Return the cells of columns that hold texts or numbers themselves, as Python's values.

    Example:
        >>> cells_of(pa.table({"question": ["Do you ship?", None], "votes": [3, 1], "answers": [["Yes."], []]}))
        {'question': ['Do you ship?', None], 'votes': [3, 1]}
    """
    return {
        name: _values(table.column(name), None)
        for name in dict.fromkeys(table.schema.names)
        if arrow_kind(table.schema.field(name).type) in (TEXT, NUMBER)
    }


def tops(wanted: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the columns, out of ``names``, that the wanted ones are or begin with by a dotted name, each once.

    Example:
        >>> tops(["translation.en", "translation.de", "v1.2"], ["v1.2", "translation"])
        ['translation', 'v1.2']
    """
    starts = ([name, *(name[:place] for place, letter in enumerate(name) if letter == ".")] for name in wanted)
    return list(dict.fromkeys(next(start for start in each if start in names) for each in starts))


def is_plain(schema: pa.Schema, wanted: Mapping[str, str]) -> bool:
    """Say whether the wanted columns need no conversion.

    Example:
        >>> schema = pa.schema({"question": pa.string(), "votes": pa.int64()})
        >>> is_plain(schema, {"question": "text", "votes": "number"}), is_plain(schema, {"votes": "text"})
        (True, False)
    """
    labels = class_names(schema)
    plain = {TEXT: (pa.string(), pa.large_string()), TEXTS: (pa.list_(pa.string()),), NUMBER: ()}
    for name, kind in wanted.items():
        index = schema.get_field_index(name)
        if index < 0:
            return False
        arrow = schema.field(index).type
        if kind == NUMBER:
            if not _is_number(arrow) or _is.is_decimal(arrow):
                return False
        elif arrow not in plain[kind] or name in labels:
            return False
    return True


def is_valid(table: Any, names: Iterable[str]) -> bool:
    """Say whether all texts of some columns are UTF-8: other programs' tables may hold halves of surrogate pairs.

    Example:
        >>> drinks = pa.table({"name": pa.array([b"tea", "café".encode("cp1252")]).view(pa.string())})
        >>> is_valid(drinks[:1], ["name"]), is_valid(drinks, ["name"])
        (True, False)
    """
    try:
        for name in names:
            table.column(name).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def convert(
    path: str | Path, tables: Iterator[Any], whole: pa.Schema, wanted: Mapping[str, str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Convert the wanted columns of Arrow tables or batches.

    Args:
        path: for messages.
        tables: with the schema ``whole`` or the part of it that is wanted.
        whole: of the source.
        wanted: what each column, or field by its dotted name, shall hold.
        schema: of the result.

    Raises:
        UsageError: at the first cell that cannot be read as what is wanted.

    Example:
        >>> table = pa.table({"question": ["Do you ship?", None], "votes": [3, 1], "page": [7, 8]})
        >>> wanted, schema = {"question": "text", "votes": "text"}, pa.schema({"question": pa.string(), "votes": pa.string()})
        >>> [batch.to_pylist() for batch in convert("faq.parquet", iter([table]), table.schema, wanted, schema)]
        [[{'question': 'Do you ship?', 'votes': '3'}, {'question': None, 'votes': '1'}]]
    """
    labels, done = class_names(whole), 0
    for table in tables:
        fast = {name: _cast(table, name, kind) for name, kind in wanted.items() if name not in labels or kind == NUMBER}
        rest = {name: kind for name, kind in wanted.items() if fast.get(name) is None}
        if rest:
            part = pa.schema({name: ARROW[kind] for name, kind in rest.items()})
            rows = _rows(table, rest, labels, done)
            made = list(batches(path, rows, rest, part, "row", lambda _: "Mend the row, or set columns to other ones."))
            fast |= {
                name: pa.chunked_array([b.column(i) for b in made], part.field(i).type) for i, name in enumerate(rest)
            }
        done += len(table)
        yield from pa.table([fast[name] for name in wanted], schema=schema).to_batches()


def open_parquet(path: Path) -> Any:
    """Open a parquet file.

    Raises:
        UsageError: if it is none, or is compressed as a whole and larger than `LARGEST_COMPRESSED`.

    Example:
        >>> import pyarrow.parquet as pq
        >>> pq.write_table(pa.table({"question": ["Do you ship?"], "votes": [3]}), "faq.parquet")
        >>> open_parquet(Path("faq.parquet")).schema_arrow.names
        ['question', 'votes']
    """
    import pyarrow.parquet as pq

    source: Any = str(path)
    if compression_of(path):
        with open_bytes(path) as file:
            content = file.read(LARGEST_COMPRESSED + 1)
        if len(content) > LARGEST_COMPRESSED:
            raise UsageError(
                f"{path}: a parquet file larger than {LARGEST_COMPRESSED >> 20} MiB is read where it lies, not compressed as a whole. "
                f"Decompress it: {through(path, name=unpacked(path).name)}"
            )
        source = io.BytesIO(content)
    try:
        return pq.ParquetFile(source, memory_map=isinstance(source, str))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: expected a parquet file; {str(error).splitlines()[0]}.") from None


def _is_number(arrow: Any) -> bool:
    return any(fits(arrow) for fits in _NUMBERS)


def _stored(arrow: Any) -> Any:
    """Look through extensions, dictionaries and runs at the type of the values."""
    if isinstance(arrow, pa.BaseExtensionType):
        return _stored(arrow.storage_type)
    if _is.is_dictionary(arrow) or _is.is_run_end_encoded(arrow):
        return _stored(arrow.value_type)
    return arrow


def _fields(arrow: Any, listed: bool = False) -> Iterator[tuple[str, Any]]:
    """Go through the fields inside of a type; those inside of a list are lists."""
    arrow = _stored(arrow)
    if any(fits(arrow) for fits in _LISTS):
        yield from _fields(arrow.value_type, True) if not listed else ()
    elif _is.is_struct(arrow):
        for field in arrow:
            yield field.name, pa.list_(field.type) if listed else field.type
            yield from ((f"{field.name}.{name}", inner) for name, inner in _fields(field.type, listed))


def _cast(table: Any, name: str, kind: str) -> Any:
    """Convert a column where Arrow does it as we mean it; None where not."""
    if name not in table.schema.names:
        return None
    column = table.column(name)
    arrow = column.type.value_type if _is.is_dictionary(column.type) else column.type
    text = kind in (TEXT, DIGITS) and (_is.is_string(arrow) or _is.is_large_string(arrow) or _is.is_string_view(arrow))
    texts = kind == TEXTS and (_is.is_list(arrow) or _is.is_large_list(arrow)) and _is.is_string(arrow.value_type)
    if not (text or texts or (kind == NUMBER and _is_number(arrow))):
        return None
    try:
        column.validate(full=True)
        return column.cast(ARROW[kind], safe=kind != NUMBER)
    except (pa.ArrowException, UnicodeError):
        return None


def _rows(table: Any, wanted: Mapping[str, str], labels: Mapping[str, list[str]], done: int) -> Iterator[Row]:
    columns = {top: _values(table.column(top), labels.get(top)) for top in tops(wanted, table.schema.names)}
    for index in range(len(table)):
        yield done + index + 1, {top: values[index] for top, values in columns.items()}


def _values(column: Any, labels: list[str] | None) -> list[Any]:
    """Return a column as Python's values: classes by their names, short floats as they are written, bytes where texts are no UTF-8."""
    arrow = column.type
    if labels is not None:
        return [labels[i] if i is not None and 0 <= i < len(labels) else None for i in column.to_pylist()]
    if _is.is_float16(arrow) or _is.is_float32(arrow):
        numbers = column.to_numpy()
        return [None if np.isnan(x) else Literal(str(x)) for x in numbers]
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(_as_bytes(arrow)).to_pylist()


def _as_bytes(arrow: Any) -> Any:
    if _is.is_list(arrow):
        return pa.list_(_as_bytes(arrow.value_type))
    if _is.is_large_list(arrow):
        return pa.large_list(_as_bytes(arrow.value_type))
    if _is.is_struct(arrow):
        return pa.struct([(field.name, _as_bytes(field.type)) for field in arrow])
    return pa.large_binary() if _is.is_large_string(arrow) else pa.binary() if arrow_kind(arrow) == TEXT else arrow
