from __future__ import annotations

from pathlib import Path

import pytest

from inbatch.data.formats.decoding import Coding
from inbatch.data.formats.delimited import (
    Broken,
    Layout,
    Quotes,
    cells_of,
    is_enclosed,
    is_number,
    name_of,
    needs_quotes,
    number_of,
    rows,
)
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError


def split(text: str, delimiter: str, quotes: Quotes) -> list[tuple[int, list[str]]]:
    return list(cells_of(enumerate(text.splitlines(keepends=True), 1), delimiter, quotes))


def test_enclosed_cells_follow_rfc_4180():
    text = 'a;"b;""c"""\n\n"two\nlines";d\r\n'
    assert split(text, ";", "double") == [(1, ["a", 'b;"c"']), (3, ["two\nlines", "d"])]


def test_quotes_that_are_text_are_kept():
    assert split('"a\tb"c\n""\t"d"\n', "\t", "text") == [(1, ['"a', 'b"c']), (2, ['""', '"d"'])]


def test_quotes_behind_backslashes():
    assert split('"say \\"a\\"","b"\nc\\,d,e\n', ",", "backslash") == [(1, ['say "a"', "b"]), (2, ["c,d", "e"])]


def test_a_blank_before_a_quote_is_none_of_the_cell():
    assert split('a, "b, c"\n d,  e\n', ",", "double") == [(1, ["a", "b, c"]), (2, [" d", "  e"])]


@pytest.mark.parametrize("quotes", ["double", "text"])
def test_a_carriage_return_inside_of_a_cell_is_text(quotes):
    numbered = [(1, "a\rb\tc\r\n"), (2, "d\te\r\r\n")]
    assert [cells for _, cells in cells_of(numbered, "\t", quotes)] == [["a\rb", "c"], ["d", "e"]]


def test_a_carriage_return_beside_a_cell_in_quotes_is_text():
    assert list(cells_of([(1, '0\r,"0,5\r"\r\n'), (2, 'a\rb,"c\n'), (3, 'd\r"\n')], ",", "double")) == [
        (1, ["0\r", "0,5\r"]),
        (2, ["a\rb", "c\nd\r"]),
    ]


@pytest.mark.parametrize("text", ['a,b\n"a"b,c\n', 'a,b\n"a,c\n', 'a,b\n"a\n"b\n",c"d\n'])
def test_a_quotation_mark_where_none_may_stand_is_broken(text):
    with pytest.raises(Broken) as error:
        split(text, ",", "double")
    assert error.value.number == 2


def test_a_cell_of_a_million_characters_is_read():
    assert split(f'"{"a" * 1_000_000}",b\n', ",", "double")[0][1][1] == "b"


def test_cells_that_a_writer_enclosed():
    assert [is_enclosed(cell) for cell in ('"a"', '"a""b"', '"a"b"', '"a', "a")] == [True, True, False, False, False]
    assert [needs_quotes(cell) for cell in ('"a"', '"a""b"', '"a\rb"', '""', '"a""b')] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_numbers_with_a_decimal_comma():
    assert [number_of(cell) for cell in ("0,85", "-3,5", "2", "1.5", "0,500", "12,0001")] == [
        0.85,
        -3.5,
        2,
        1.5,
        0.5,
        12.0001,
    ]
    assert [is_number(cell) for cell in ("1,000", "12,345", "a", "", "1,2,3")] == [False] * 5


def layout(quotes: Quotes = "text", delimiter: str = "\t", watched: bool = True, marked: bool = False) -> Layout:
    return Layout(Coding(), delimiter, quotes, True, ("a", "b"), marked, watched)


def write(folder: Path, text: str) -> Path:
    (folder / "a.tsv").write_bytes(text.encode())
    return folder / "a.tsv"


def test_rows_have_their_names_and_lines(tmp_path):
    path = write(tmp_path, "sep=\t\na\tb\n\n1\t2\n")
    assert list(rows(path, layout(marked=True))) == [(4, {"a": "1", "b": "2"})]


@pytest.mark.parametrize("row", ['"say ""a"""\tb', '"a\rb"\tc', '"a\tb"\tc', '"a\nb"\tc'])
def test_the_first_cell_in_quotes_behind_many_rows_without_is_refused(tmp_path, row):
    path = write(tmp_path, "a\tb\n" + "1\t2\n" * 1500 + row + "\n")
    with pytest.raises(
        Doubt, match=r"line 1502: a cell in quotes, where no row before has one.*quotes: double.*quotes: text"
    ):
        list(rows(path, layout()))
    if "\n" not in row and "\ta" not in row:
        assert len(list(rows(write(tmp_path, f"a\tb\n1\t2\n{row}\n"), layout(quotes="double")))) == 2


def test_quotes_that_are_text_in_the_first_rows_are_text_in_later_ones(tmp_path):
    path = write(tmp_path, 'a\tb\n1\t"say ""a"""\n')
    assert list(rows(path, layout(watched=False))) == [(2, {"a": "1", "b": '"say ""a"""'})]


def test_what_does_not_fit_is_refused_with_its_line(tmp_path):
    with pytest.raises(UsageError, match="line 3: expected 2 columns, as in the first line; got 1"):
        list(rows(write(tmp_path, "a\tb\n1\t2\n3\n"), layout()))
    with pytest.raises(Doubt, match=r"line 2: .*double quotes around cells.*if quotes are text: .*quotes: text"):
        list(rows(write(tmp_path, 'a,b\n"a"b,c\n'), layout("double", ",")))
    with pytest.raises(UsageError, match=r"line 2: .*double those inside\.$"):
        list(rows(write(tmp_path, 'a,b\n"a"b,c\n'), layout("double", ",", watched=False)))


def test_a_layout_reads_as_a_sentence():
    assert str(layout()) == "UTF-8; tab between cells; quotes are text; names in the first line"
    other = Layout(Coding("utf-16-le"), "~", "backslash", False, ("0",))
    assert str(other).startswith(
        "UTF-16-LE; tilde between cells; quotes enclose cells, those inside stand behind a backslash; no names"
    )
    assert [name_of(delimiter) for delimiter in ";,\t|:"] == ["semicolon", "comma", "tab", "pipe", "colon"]
