import gzip
import json
import subprocess

import pytest
from format_files import coding_of
from hypothesis import given, settings
from hypothesis import strategies as st

from inbatch.data.formats import decoding
from inbatch.data.formats.cells import Literal
from inbatch.data.formats.json_rows import check_whole, is_stream, line_rows, stream_rows, without_line
from inbatch.data.formats.opening import open_bytes
from inbatch.errors import UsageError

ROWS = [
    {"anchor": "a [", "positive": "b\n}"},
    {"positive": "\u00e9\U0001f600", "anchor": "c", "more": [1, {"x": None}]},
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path):
    return stream_rows(path, coding_of(path))


def streams(path):
    with open_bytes(path) as file:
        return is_stream(path, file, coding_of(path))


def lines(path):
    coding = coding_of(path)
    return list(line_rows(path, decoding.lines(path, coding), coding))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False),
        "\ufeff \n" + json.dumps(ROWS) + "\n",
        "\n".join(map(json.dumps, ROWS)),
        "".join(json.dumps(row, indent=1) for row in ROWS),
        json.dumps(ROWS).encode("utf-16"),
        json.dumps(ROWS, ensure_ascii=False).replace("\\n", "\\u000a").encode("utf-8-sig"),
    ],
)
def test_an_array_and_objects_one_after_another_are_the_same_rows(tmp_path, content):
    path = write(tmp_path / "a.json", content)
    assert streams(path)
    assert [row for _, row in rows_of(path)] == [ROWS[0], ROWS[1] | {"more": ["1", {"x": None}]}]


@pytest.mark.parametrize(
    ("name", "content", "stream"),
    [
        ("a.jsonl", '{"a": 1}\n', False),
        ("a.jsonl", '["a", "b"]\n', False),
        ("a.jsonl", '[["a"], "b"]\n', False),
        ("a.jsonl", '[{"a": 1}, {"a": 2}]', True),
        ("a.jsonl", '\ufeff[\n  {"a": 1}\n]', True),
        ("a.jsonl", "[\r\n[1]\r\n]", True),
        ("a.json", '{"a": 1}', True),
        ("A.JSON", "", True),
    ],
)
def test_an_array_is_seen_whatever_the_file_is_called(tmp_path, name, content, stream):
    for encoding in ("utf-8", "utf-16"):
        path = write(tmp_path / name, content.encode(encoding))
        assert streams(path) == stream


CELLS = st.text(max_size=9) | st.none() | st.booleans() | st.lists(st.text(max_size=3), max_size=2)


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.text(max_size=5), CELLS, min_size=1, max_size=3), max_size=5))
def test_any_array_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    for indent in (None, 1):
        path = write(folder / "a.json", json.dumps(rows, indent=indent))
        assert [row for _, row in rows_of(path)] == rows


def test_a_row_longer_than_a_block_and_the_lines_of_rows(tmp_path):
    rows = [{"text": "x" * 300_000}, {"text": "y"}, {"text": "z\u00e9" * 100_000}]
    path = write(tmp_path / "a.json", "[\n" + ",\n\n".join(json.dumps(row) for row in rows) + "\n]")
    assert list(rows_of(path)) == [(2, rows[0]), (4, rows[1]), (6, rows[2])]


def test_a_long_array_is_not_held(tmp_path):
    import tracemalloc

    row = json.dumps({"text": "word " * 400})
    path = write(tmp_path / "a.json.gz", gzip.compress(("[" + ",".join([row] * 10_000) + "]").encode(), 1))
    tracemalloc.start()
    count = sum(1 for _ in rows_of(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 5 << 20  # of 20 MB


def test_numbers_keep_their_digits(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1.50, "b": -0, "c": [12345678901234567890123], "d": NaN, "e": true}')
    ((number, row),) = lines(path)
    assert (number, row) == (1, {"a": "1.50", "b": "-0", "c": ["12345678901234567890123"], "d": "NaN", "e": True})
    assert isinstance(row["a"], Literal)


def test_lists_are_numbered_and_texts_are_a_column(tmp_path):
    path = write(tmp_path / "a.jsonl", '["q", "p"]\n\n["r", "s", 3]\n"alone"\n')
    expected = [(1, {"0": "q", "1": "p"}), (3, {"0": "r", "1": "s", "2": "3"}), (4, {"text": "alone"})]
    assert lines(path) == expected
    path = write(tmp_path / "a.json", '[["q", "p"], "alone"]')
    assert [row for _, row in rows_of(path)] == [{"0": "q", "1": "p"}, {"text": "alone"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}', "line 1: .*the file ends before it"),
        ('[{"a": 1},\n', "line 2: .*the end of the file"),
        ('[{"a": 1},\n]', "line 2"),
        ('[{"a": 1}\n {"a": 2}]', "line 2: .*expected a comma or the end of the array"),
        ('[{"a": 1}]\n\n[]', "line 3: .*nothing behind the array"),
        ('[{"a": 1},\n{"a" 2}]', "line 2: .*delimiter"),
        ('[{"a": 1},\n{"a": 2', "line 2"),
        ("anchor,positive\na,b", "line 1: .*an array of objects or objects one after another"),
        ("[3]", 'expected an object such as .*got "3"'),
        ("[null]", "expected an object such as .*got null"),
        ("[{}]", "expected an object such as"),
        ('[[{"a": 1}]]', "expected an object such as"),
        ('{"a": "\u00e9"}'.encode("latin1"), "after line 1: expected UTF-8; .*set encoding"),
        ('[{"a": ' + "[" * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(tmp_path, content, message):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(UsageError, match=message) as error:
        list(rows_of(path))
    assert str(error.value).startswith(f"{path}")
    assert "\n" not in str(error.value)


def test_a_file_without_rows_has_none(tmp_path):
    for content in ("", " \n", "[]", "[\n]\n"):
        assert list(rows_of(write(tmp_path / "a.json", content))) == []


@pytest.mark.parametrize("line", ['{"a": "b"', '{"a": 3}}', "anchor\tpositive", "[" * 20_000])
@pytest.mark.parametrize("name", ["it's a.b.jsonl", "a.ndjson.gz"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("encoding", "named"), [("utf-8-sig", None), ("utf-16", None), ("utf-16-le", "utf-16-le")])
def test_a_line_that_is_no_json_is_refused_with_the_command_that_leaves_it_out(
    tmp_path, line, name, ends, encoding, named
):
    path = tmp_path / name
    for number, rows in ((1, ["x", "y"]), (2, ["x", "y"])):
        texts = [json.dumps({"a": f"{row}\u0100"}, ensure_ascii=False) for row in rows]
        content = ends.join([*texts[: number - 1], line, *texts[number - 1 :], ""]).encode(encoding)
        write(path, gzip.compress(content) if name.endswith("gz") else content)
        coding = coding_of(path, named)
        with pytest.raises(UsageError, match=f"line {number}: expected one JSON object a line") as error:
            list(line_rows(path, decoding.lines(path, coding), coding))
        assert without_line(path, number, coding) in str(error.value)
        subprocess.run(str(error.value).partition("without it: ")[2], shell=True, check=True)
        made = tmp_path / f"mended-{name.removesuffix('.gz')}"
        coding = coding_of(made, named)
        assert [row["a"] for _, row in line_rows(made, decoding.lines(made, coding), coding)] == [
            f"{r}\u0100" for r in rows
        ]


@pytest.mark.parametrize(
    "whole",
    [
        {"version": "1", "data": [{"q": "a\u00e9", "p": "b"}, {"q": "c", "p": "d"}]},
        {"q": ["a\u00e9", "c"], "p": ["b", "d"]},
        {"q": {"0": "a\u00e9", "1": "c"}, "p": {"0": "b", "1": "d"}},
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(("encoding", "named"), [("utf-8", None), ("utf-16", None), ("cp1252", "cp1252")])
def test_one_object_with_all_rows_inside_is_refused_with_the_command_that_writes_them_out(
    tmp_path, whole, ending, encoding, named
):
    content = json.dumps(whole, ensure_ascii=False).encode(encoding)
    path = write(tmp_path / f"it's.b.json{ending}", gzip.compress(content) if ending else content)
    coding = coding_of(path, named)
    with pytest.raises(UsageError, match="expected one object a row") as error:
        check_whole(path, [row for _, row in stream_rows(path, coding)], coding)
    subprocess.run(str(error.value).partition("Write them out: ")[2], shell=True, check=True, cwd=tmp_path)
    assert [row for _, row in lines(tmp_path / "it's.b-rows.jsonl")] == [
        {"q": "a\u00e9", "p": "b"},
        {"q": "c", "p": "d"},
    ]


@pytest.mark.parametrize(
    "rows", [[{"q": "a", "p": ["b", "c"]}], [{"q": ["a"], "p": ["b"]}], [{"a": [{"b": "c"}]}] * 2, [{"q": "a"}]]
)
def test_rows_that_only_look_like_such_an_object_are_read_as_they_are(tmp_path, rows):
    path = write(tmp_path / "a.json", json.dumps(rows).encode())
    found = [row for _, row in rows_of(path)]
    check_whole(path, found, coding_of(path))
    assert found == rows
