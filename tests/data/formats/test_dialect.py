from __future__ import annotations

from pathlib import Path

import pytest

from inbatch.data.formats.delimited import UNUSUAL
from inbatch.data.formats.dialect import find_layout
from inbatch.data.formats.doubt import Doubt
from inbatch.errors import UsageError

HEAD = "anchor{0}positive\n"


def write(folder: Path, content: str, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(content.encode())
    return folder / name


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_gives_all_rows_the_same_cells(tmp_path, suffix, delimiter):
    others = ",;\t|".replace(delimiter, "")
    rows = [f"Hello{others} you{{0}}b", f"x{{0}}y{others[0]}", f"1{others[1]} 2{{0}}3", "c{0}d"]
    text = (HEAD + "\n".join(rows)).format(delimiter)
    found = find_layout(write(tmp_path, text, f"a{suffix}"), suffix=suffix)
    assert (found.delimiter, found.names) == (delimiter, ("anchor", "positive"))


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "sep=;\r"])
def test_excels_line_names_the_delimiter(tmp_path, line):
    found = find_layout(write(tmp_path, f"{line}\nanchor;positive\na,b;c,d\n"))
    assert (found.delimiter, found.marked, found.names) == (";", True, ("anchor", "positive"))


def test_a_comma_inside_of_quotes_is_no_delimiter(tmp_path):
    found = find_layout(write(tmp_path, '"a b"\t"3,6"\n"c d"\t"4,7"\n'), header=False)
    assert (found.delimiter, found.quotes, found.names) == ("\t", "double", ("0", "1"))


def test_two_delimiters_that_fit_are_refused_with_both_lines(tmp_path):
    path = write(tmp_path, "Hello, world;Hi there\n")
    with pytest.raises(Doubt, match="comma and semicolon may all stand between cells") as doubt:
        find_layout(path)
    assert [more for _, more in doubt.value.meanings] == [{"delimiter": "comma"}, {"delimiter": "semicolon"}]
    assert find_layout(path, header=False, delimiter="semicolon").delimiter == ";"
    assert find_layout(path, header=False, delimiter=",").names == ("0", "1")


@pytest.mark.parametrize("delimiter", UNUSUAL)
def test_a_single_column_is_refused_with_the_unusual_delimiter_that_fits(tmp_path, delimiter):
    path = write(tmp_path, "satz{0}frage\na{0}b\nc{0}d\n".format(UNUSUAL[delimiter]))
    with pytest.raises(Doubt) as doubt:
        find_layout(path, header=True)
    assert doubt.value.meanings[0][1] == {"delimiter": delimiter}
    assert find_layout(path, header=True, delimiter=delimiter).names == ("satz", "frage")


def test_a_single_column_with_a_known_name_is_one(tmp_path):
    assert find_layout(write(tmp_path, "text\nHello, world\n".replace(",", ""))).names == ("text",)
    with pytest.raises(Doubt, match="a single column, 'satz', and no delimiter among comma") as doubt:
        find_layout(write(tmp_path, "satz\nHello\n"), header=True)
    assert doubt.value.meanings == [("if there is one column", {"columns": {"anchor": "satz"}})]


@pytest.mark.parametrize(
    ("delimiter", "body", "quotes"),
    [
        (",", '"a","b"\n', "double"),
        (";", '"a;b";"say ""c"""\n', "double"),
        ("|", 'a|say "b"\n', "double"),
        ("\t", "a\tb\n", "text"),
        ("\t", '"a\tsay "b" c\n', "text"),
        ("\t", '"a"\tb\n', "text"),
        ("\t", 'a\t"say ""b"""\n', "double"),
        ("\t", '"two\nlines"\tb\n', "double"),
        ("\t", '"a\tb"\tc\n', "double"),
        ("\t", 'a\t"b\rc"\n', "double"),
        ("\t", '"a\tb\n', "text"),
    ],
)
def test_what_quotes_mean(tmp_path, delimiter, body, quotes):
    assert find_layout(write(tmp_path, HEAD.format(delimiter) + body + body)).quotes == quotes


def test_a_column_in_quotes_from_its_name_on_is_enclosed(tmp_path):
    assert find_layout(write(tmp_path, '"anchor"\t"positive"\n"a"\t"b"\n')).quotes == "double"


@pytest.mark.parametrize(
    ("content", "choices"),
    [
        ('anchor,positive\n"a"b,c\n', ["text"]),
        ('anchor,positive\n"a,c\n', ["text"]),
        ('anchor;positive\n"Hi" he said;"c" too\n', ["text"]),
        ('anchor,positive\n"say \\"a\\"","b"\n', ["backslash", "text"]),
        ('anchor\tpositive\na\t"say ""b"""\nc"d\te\n', ["double", "text"]),
        ('anchor\tpositive\n"say \\"a\\""\t"b"\n', ["backslash", "text"]),
    ],
)
def test_quotes_that_may_mean_either_are_refused(tmp_path, content, choices):
    path = write(tmp_path, content)
    with pytest.raises(Doubt) as doubt:
        find_layout(path)
    assert [more["quotes"] for _, more in doubt.value.meanings] == choices
    for quotes in choices:
        assert find_layout(path, header=True, quotes=quotes).quotes == quotes


def test_a_stray_quote_that_swallows_a_long_file_is_text(tmp_path):
    rows = ["a\tb\n"] * 3 + ['"c\td\n'] + ["a\tb\n"] * 2000
    found = find_layout(write(tmp_path, HEAD.format("\t") + "".join(rows)))
    assert (found.quotes, found.watched) == ("text", False)


def test_only_the_beginning_of_a_file_is_read(tmp_path):
    path = write(tmp_path, HEAD.format(";") + "a;b\n" * 5000 + "c;\xe9\n")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9"))
    assert find_layout(path).delimiter == ";"


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        ("\n\n", {}, "expected at least one row"),
        ("sep=;\n", {}, "expected at least one row"),
        ("a,b\n", {"delimiter": "::"}, "expected delimiter to be one character or one of comma.*got '::'"),
        ("a,b\n", {"delimiter": '"'}, "expected delimiter to be one character"),
        ("a,b\n", {"quotes": "single"}, "expected quotes to be one of double, backslash, text; got 'single'"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, content, given, message):
    with pytest.raises(UsageError, match=message):
        find_layout(write(tmp_path, content), **given)


def test_real_files(test_data: Path):
    stsb = test_data / "senteval" / "STS" / "STSBenchmark" / "sts-train.csv"
    found = find_layout(stsb, {"anchor": 5, "positive": 6, "score": 4})
    assert (found.delimiter, found.quotes, found.header, len(found.names)) == ("\t", "text", False, 7)
    assert find_layout(test_data / "banking77" / "train.csv").names == ("text", "category")
