import bz2
import datetime
import gzip
import subprocess
from decimal import Decimal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inbatch.data.formats import arrow
from inbatch.data.formats.arrow import (
    arrow_kind,
    cells_of,
    class_names,
    convert,
    is_plain,
    is_valid,
    open_parquet,
    schema_kinds,
)
from inbatch.data.formats.cells import ARROW
from inbatch.data.formats.columns import NUMBER, OTHER, TEXT, TEXTS
from inbatch.errors import UsageError

TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]
LIST_TYPES = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda inner: pa.list_(inner, 2)]


def converted(table, wanted):
    schema = pa.schema({name: ARROW[kind] for name, kind in wanted.items()})
    made = convert("file", iter([table.slice(0, 2), table.slice(2)]), table.schema, wanted, schema)
    return pa.Table.from_batches(made, schema).to_pydict()


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_texts_of_every_type_are_texts(kind):
    assert arrow_kind(kind) == TEXT
    table = pa.table({"a": pa.array(["x", None, "\u00e9", ""], kind)})
    assert converted(table, {"a": TEXT}) == {"a": ["x", None, "\u00e9", ""]}


@pytest.mark.parametrize("inner", TEXT_TYPES, ids=str)
@pytest.mark.parametrize(
    "outer", LIST_TYPES, ids=["list", "large_list", "list_view", "large_list_view", "fixed_size_list"]
)
def test_lists_of_texts_of_every_type_are_lists_of_texts(outer, inner):
    cells = [["a", "b"], None, ["c", None], ["\u00e9", ""]]
    assert arrow_kind(outer(inner)) == TEXTS
    assert converted(pa.table({"a": pa.array(cells, outer(inner))}), {"a": TEXTS}) == {"a": cells}


@pytest.mark.parametrize(
    ("column", "texts", "numbers"),
    [
        (pa.array([1, 2**60 + 1, None]), ["1", "1152921504606846977", None], [1.0, float(2**60 + 1), None]),
        (pa.array([1.0, 0.1, 1e22]), ["1.0", "0.1", "1e+22"], [1.0, 0.1, 1e22]),
        (pa.array([0.5, 0.25, None], pa.float32()), ["0.5", "0.25", None], [0.5, 0.25, None]),
        (pa.array([True, False, None]), ["true", "false", None], [1.0, 0.0, None]),
        (pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)), ["1.50", None], [1.5, None]),
        (pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)), ["1.50", None], [1.5, None]),
    ],
)
def test_numbers_are_numbers_and_where_wanted_texts(column, texts, numbers):
    assert arrow_kind(column.type) == NUMBER
    assert converted(pa.table({"a": column}), {"a": TEXT}) == {"a": texts}
    assert converted(pa.table({"a": column}), {"a": NUMBER}) == {"a": numbers}


def test_a_short_float_has_its_own_digits_and_not_a_number_is_no_text():
    table = pa.table({"a": pa.array([0.1, float("nan")], pa.float32()), "b": [0.1, float("nan")]})
    assert converted(table, {"a": TEXT, "b": TEXT}) == {"a": ["0.1", None], "b": ["0.1", None]}


def test_kinds_of_arrow_types():
    assert arrow_kind(pa.run_end_encoded(pa.int32(), pa.string())) == TEXT
    for kind in (
        pa.null(),
        pa.list_(pa.int32()),
        pa.struct([]),
        pa.date32(),
        pa.map_(pa.string(), pa.string()),
        pa.binary(16),
    ):
        assert arrow_kind(kind) == OTHER
    assert arrow_kind(pa.json_()) == TEXT
    assert arrow_kind(pa.uuid()) == OTHER


def test_runs_are_their_values():
    import pyarrow.compute as pc

    table = pa.table({"a": pc.run_end_encode(pa.array(["x", "x", None]))})
    assert converted(table, {"a": TEXT}) == {"a": ["x", "x", None]}


NESTED = pa.table(
    {
        "translation": [{"en": "a", "de": "b"}, {"en": "c", "de": None}, None],
        "passages": [[{"text": "p", "year": 1}, {"text": "q", "year": 2}], [], None],
        "answers": [{"text": ["x"], "start": [1]}, {"text": [], "start": []}, {"text": ["y", "z"], "start": [2, 3]}],
        "deep.er": ["own", "own", "own"],
        "deep": [{"er": "field", "two": {"three": "d"}}] * 3,
    }
)


def test_fields_are_found_by_dotted_names():
    assert schema_kinds(NESTED.schema) == {
        "translation": OTHER,
        "translation.en": TEXT,
        "translation.de": TEXT,
        "passages": OTHER,
        "passages.text": TEXTS,
        "passages.year": OTHER,
        "answers": OTHER,
        "answers.text": TEXTS,
        "answers.start": OTHER,
        "deep.er": TEXT,
        "deep": OTHER,
        "deep.two": OTHER,
        "deep.two.three": TEXT,
    }
    assert converted(NESTED, {"translation.en": TEXT, "passages.text": TEXTS, "answers.text": TEXTS}) == {
        "translation.en": ["a", "c", None],
        "passages.text": [["p", "q"], [], None],
        "answers.text": [["x"], [], ["y", "z"]],
    }
    assert converted(NESTED, {"deep.er": TEXT, "deep.two.three": TEXT}) == {
        "deep.er": ["own"] * 3,
        "deep.two.three": ["d"] * 3,
    }


def surrogates(kind):
    """A table as other programs write them: UTF-8 but for half a pair, a whole pair in halves, and a latin-1 letter."""
    texts = [b"a\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", "\u00e9".encode()]
    storage = pa.array(texts, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind, 3, storage.buffers())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_lone_surrogates_are_mended(kind):
    texts = surrogates(kind)
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3, 3]), texts)
    fields = pa.StructArray.from_arrays([texts], ["x"])
    found = converted(pa.table({"a": texts, "b": lists, "c": fields}), {"a": TEXT, "b": TEXTS, "c.x": TEXT})
    mended = ["a\ufffd", "\U0001f600", "\u00e9"]
    assert found == {"a": mended, "b": [mended[:1], mended[1:], []], "c.x": mended}


def test_what_is_no_utf_8_is_seen():
    table = pa.table({"a": surrogates(pa.string()), "b": ["x", "y", "z"], "c": [1, 2, 3]})
    assert is_valid(table, ["b", "c"])
    assert not is_valid(table, ["b", "a"])


def test_bytes_that_are_no_text_are_refused_with_their_row():
    table = pa.table({"a": pa.array([b"a", b"b", b"caf\xe9"])})
    with pytest.raises(UsageError, match="file, row 3, column a: expected a text; got .*Mend the row"):
        converted(table, {"a": TEXT})


def test_a_date_is_no_text():
    with pytest.raises(UsageError, match="row 1, column a: expected a text"):
        converted(pa.table({"a": [datetime.date(2020, 1, 1)]}), {"a": TEXT})


def test_classes_are_read_by_their_names():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [1, 0, -1, None]}, features)
    assert class_names(rows.features.arrow_schema) == {"label": ["no", "yes"]}
    table = rows.data.table.replace_schema_metadata(rows.features.arrow_schema.metadata)
    assert converted(table, {"label": TEXT}) == {"label": ["yes", "no", None, None]}
    assert converted(table, {"label": NUMBER}) == {"label": [1.0, 0.0, -1.0, None]}
    assert class_names(pa.schema({"a": pa.int32()})) == {}
    assert (
        class_names(table.schema.with_metadata({"huggingface": '{"info": {"features": {"a": {"_type": "Unheard"}}}}'}))
        == {}
    )


def test_the_cells_of_plain_columns():
    table = pa.table({"a": surrogates(pa.string()), "n": [1, None, 3], "l": [["x"], [], None], "z": pa.nulls(3)})
    found = cells_of(table)
    assert list(found) == ["a", "n"]
    assert (found["a"][2], found["n"]) == ("\u00e9".encode(), [1, None, 3])


def test_what_needs_no_conversion():
    schema = pa.schema(
        {"a": pa.string(), "b": pa.large_string(), "c": pa.list_(pa.string()), "d": pa.int8(), "e": pa.string_view()}
    )
    assert is_plain(schema, {"a": TEXT, "b": TEXT, "c": TEXTS, "d": NUMBER})
    for wanted in ({"e": TEXT}, {"d": TEXT}, {"c.x": TEXT}, {"b": TEXTS}):
        assert not is_plain(schema, wanted)
    assert not is_plain(pa.schema({"a": pa.decimal128(5)}), {"a": NUMBER})


def test_a_parquet_file_is_opened_also_compressed(tmp_path, monkeypatch):
    pq.write_table(NESTED, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.PARQUET.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.parquet.bz2").write_bytes(bz2.compress(content))
    for name in ("a.parquet", "a.PARQUET.gz", "a.parquet.bz2"):
        assert open_parquet(tmp_path / name).read() == NESTED
    monkeypatch.setattr(arrow, "LARGEST_COMPRESSED", 1 << 10)
    (tmp_path / "a.parquet.bz2").rename(tmp_path / "it's b.parquet.bz2")
    for name in ("a.PARQUET.gz", "it's b.parquet.bz2"):
        with pytest.raises(UsageError, match="Decompress it: ") as error:
            open_parquet(tmp_path / name)
        subprocess.run(str(error.value).partition("Decompress it: ")[2], shell=True, check=True)
        assert open_parquet((tmp_path / name).with_suffix("")).read() == NESTED


@pytest.mark.parametrize("content", [b"text", b"PAR1 and more PAR1", b""])
def test_what_is_no_parquet_file_is_refused(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UsageError, match="expected a parquet file"):
        open_parquet(tmp_path / "a.parquet")
