from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbatch.data.formats.columns import DIGITS, NUMBER, OTHER, TEXT, TEXTS, resolve
from inbatch.data.formats.files import look, peek, read
from inbatch.errors import UsageError


def rows_of(path: Path, columns=None) -> dict[str, list]:
    reading = look(path, columns)
    kinds, _ = peek(path, reading)
    schema, batches = read(path, kinds, resolve(kinds, columns, str(path)), reading)
    return pa.Table.from_batches(batches, schema).to_pydict()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_txt_file_has_one_text_a_line(tmp_path):
    path = write(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo \xe2\x80\xa8\x0b still two\n\nfour\rstill four")
    assert rows_of(path) == {"text": ["one", "two \u2028\x0b still two", "", "four\rstill four"]}


def test_a_csv_file_follows_rfc_4180(tmp_path):
    path = write(tmp_path, "a.csv", 'anchor,positive\n"a, ""b""","two\nlines"\n\nc,\n')
    assert rows_of(path) == {"anchor": ['a, "b"', "c"], "positive": ["two\nlines", ""]}


def test_a_tsv_file_keeps_quotation_marks(tmp_path):
    path = write(tmp_path, "a.tsv", 'anchor\tpositive\n"a\tb"c\n')
    assert rows_of(path) == {"anchor": ['"a'], "positive": ['b"c']}


def test_columns_of_a_file_without_names_are_numbered(tmp_path):
    path = write(tmp_path, "a.tsv", "genre\t0.5\tA man sings.\tA person sings.\n")
    columns = {"anchor": 2, "positive": 3, "score": 1}
    assert rows_of(path, columns) == {"2": ["A man sings."], "3": ["A person sings."], "1": [0.5]}


def test_a_jsonl_file_may_hold_lists_numbers_and_null(tmp_path):
    rows = [{"query": "a", "pos": ["b", "c"], "score": 1}, {"score": 0.5, "query": None, "pos": []}]
    path = write(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, rows)))
    assert rows_of(path) == {"query": ["a", None], "pos": [["b", "c"], []], "score": [1.0, 0.5]}


def test_only_columns_with_a_role_are_checked(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"a": "x", "meta": {"k": 1}}\n{"a": "y", "meta": 3}\n')
    assert rows_of(path, {"anchor": "a"}) == {"a": ["x", "y"]}


def test_a_lone_surrogate_is_replaced(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a \\ud800 b"}')
    assert rows_of(path) == {"text": ["a \ufffd b"]}


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_parquet_file_is_cast_to_the_same_types(tmp_path, text):
    table = pa.table({"query": pa.array(["a", None], text), "pos": [["b"], ["c", "d"]], "score": [1, 0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == {"query": ["a", None], "pos": [["b"], ["c", "d"]], "score": [1.0, 0.0]}


def test_a_text_of_a_hundred_thousand_words_is_read(tmp_path):
    text = " ".join(["word"] * 100_000)
    for name, content in {"a.txt": text, "a.csv": f"text\n{text}\n", "a.jsonl": json.dumps({"text": text})}.items():
        assert rows_of(write(tmp_path, name, content)) == {"text": [text]}


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\x00", exclude_categories=["Cs"])), min_size=1))
def test_any_texts_come_back_from_jsonl_and_txt(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("any")
    path = write(folder, "a.jsonl", "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in lines))
    assert rows_of(path) == {"text": lines}
    path = write(folder, "a.txt", "\ufeff" + "".join(line + "\n" for line in lines))
    assert rows_of(path) == {"text": lines}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"abc\nd\xe9f\n", "line 2: expected UTF-8; byte 2 of the line is 0xe9"),
        ("a.csv", b"anchor,positive\nd\xe9f,a\n", "line 2: expected UTF-8"),
        ("a.csv", "anchor,positive\na,b\nc\n", "line 3: expected 2 columns, as in the first line; got 1"),
        ("a.csv", 'anchor,positive\n"a\nb",c\nd,e,f\n', "line 4: expected 2 columns, as in the first line; got 3"),
        ("a.tsv", "anchor\tpositive\na\n", "line 2: expected 2 columns"),
        ("a.csv", 'anchor,positive\n"a"b,c\n', "line 2: .*double quotes"),
        ("a.csv", 'anchor,positive\n"a,c\n', "line 2: .*double quotes"),
        ("a.csv", "A man is playing a guitar.,Someone plays.\na,b\n", "names of the columns in the first line"),
        ("a.csv", "a,a\nb,c\n", "names of the columns in the first line"),
        ("a.csv", "0,1\nb,c\n", "names of the columns in the first line"),
        ("a.csv", "anchor,\nb,c\n", "names of the columns in the first line"),
        ("a.csv", "anchor,positive\n", "at least one row"),
        ("a.jsonl", "\n\n", "at least one row"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', "line 2: expected one JSON object a line"),
        ("a.jsonl", "[]\n", "line 1: expected an object"),
        ("a.jsonl", "3\n", "line 1: expected an object"),
        ("a.jsonl", "{}\n", "line 1: expected an object"),
        ("a.jsonl", '{"text": "a"}\n{"test": "b"}\n', "no role is known for test"),
        ("a.jsonl", '{"text": "a"}\n{"text": {"b": 1}}\n', "line 2, column text: expected a text"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', "lists of texts may stand in the positive column"),
        (
            "a.jsonl",
            '{"text": "a"}\n' * 100 + '{"text": {"b": 1}}\n',
            "line 101, column text: expected a text; .* sed 101d ",
        ),
        (
            "a.jsonl",
            '{"query": "a", "pos": ["b"]}\n' * 100 + '{"query": "a", "pos": {"b": 1}}',
            "line 101, .*a list of texts",
        ),
        (
            "a.jsonl",
            '{"query": "a", "pos": ["b"]}\n' * 100 + '{"query": "a", "pos": [["b"]]}',
            "line 101, .*a list of texts",
        ),
        ("a.parquet", "text", "expected a parquet file"),
    ],
)
def test_wrong_content_is_refused_with_its_place(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(UsageError, match=message) as error:
        rows_of(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("cell", ["high", "", "nan", "inf"])
def test_a_score_that_is_no_number_is_refused_with_its_line(tmp_path, cell):
    rows = ["a,b,1\n"] * 150 + [f"a,b,{cell}\n"]
    path = write(tmp_path, "a.csv", "sentence1,sentence2,score\n" + "".join(rows))
    with pytest.raises(UsageError, match="line 152, column score: expected a number"):
        rows_of(path)


def test_kinds_of_cells_are_seen_in_the_first_rows(tmp_path):
    path = write(tmp_path, "a.csv", "a,b,c\n1,x,1\n2.5,3,\n4,,\n")
    kinds, cells = peek(path, look(path))
    assert kinds == {"a": DIGITS, "b": TEXT, "c": DIGITS}
    assert cells == {"a": ["1", "2.5", "4"], "b": ["x", "3", ""], "c": ["1", "", ""]}
    row = {"text": "a", "null": None, "number": 1, "list": ["a"], "numbers": [1], "object": {}}
    path = write(tmp_path, "a.jsonl", json.dumps(row))
    assert list(peek(path, look(path))[0].values()) == [TEXT, OTHER, NUMBER, TEXTS, OTHER, OTHER]
