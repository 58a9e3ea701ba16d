from __future__ import annotations

import pytest

from inbatch.data.formats.doubt import Doubt
from inbatch.data.formats.header import find_names, width
from inbatch.errors import UsageError

SENTENCES = [["Ein Satz mit vielen Wörtern.", "Noch ein Satz mit Wörtern."]] * 20
CHINESE = [["今天的天气非常好,我们去公园吧", "今天天气不错,出去走走"]] * 20


@pytest.mark.parametrize(
    "cells",
    [
        [["anchor", "positive"], ["a", "b"]],
        [["Question", " Answer "], ["a", "b"]],
        [["text"], ["a"]],
        [["id", "query", "positive"], ["7", "a", "b"]],
        [["query", "positive", "category"], ["a", "b", "c"]],
        [["", "satz", "frage"], ["0", "a", "b"], ["1", "c", "d"]],
        [["satz", "frage", "wert"], ["a", "b", "0.5"], ["c", "d", "1"], ["e", "f", "0,3"]],
        [["satz", "frage"], *SENTENCES],
        [["问题", "答案"], *CHINESE],
        [["سؤال", "جواب"], *SENTENCES],
    ],
)
def test_names_that_are_sure(cells):
    assert find_names("f", cells, None, None) == (True, tuple(cell.strip() or "Unnamed: 0" for cell in cells[0]))


@pytest.mark.parametrize(
    ("cells", "choices"),
    [
        ([["hund", "dog"], ["katze", "cat"]], [True, False]),
        ([["hund", "dog"], *[["katze", "cat"]] * 30], [True, False]),
        ([["你好", "您好"], ["谢谢", "多谢"]], [True, False]),
        ([["كلب", "dog"], ["قطة", "cat"]], [True, False]),
        ([["question", "Frage"], ["answer", "Antwort"]], [True, False]),
        ([["A man is playing a guitar.", "Someone plays."], ["a", "b"]], [False, True]),
        ([["今天天气很好。", "是的。"], ["a", "b"]], [False, True]),
        ([["Wie zufrieden sind Sie mit uns", "Warum"], *SENTENCES], [False, True]),
        ([["0", "1"], ["a", "b"]], [False, True]),
        ([["a", "a"], ["b", "c"]], [False]),
        ([["anchor", ""], ["b", "c"]], [False]),
    ],
)
def test_a_first_row_that_may_be_either_is_refused(cells, choices):
    with pytest.raises(Doubt, match="expected the names of the columns in the first line") as doubt:
        find_names("f", cells, None, None)
    assert [more["header"] for _, more in doubt.value.meanings] == choices


def test_what_the_user_says_decides():
    short = [["hund", "dog"], ["katze", "cat"]]
    assert find_names("f", short, None, True) == (True, ("hund", "dog"))
    assert find_names("f", short, None, False) == (False, ("0", "1"))
    assert find_names("f", short, {"anchor": "hund", "negatives": ["dog"]}, None) == (True, ("hund", "dog"))
    assert find_names("f", short, {"anchor": 0}, None) == (False, ("0", "1"))
    assert find_names("f", short, {"anchor": 0}, True) == (True, ("0", "1"))


def test_numbers_of_columns_do_not_make_names_a_row():
    with pytest.raises(Doubt, match="columns are set by numbers, and the first line is 'anchor, positive'"):
        find_names("f", [["anchor", "positive"], ["a", "b"]], {"anchor": 0, "positive": 1}, None)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(UsageError, match="expected different names"):
        find_names("f", [["a", "a"], ["b", "c"]], None, True)


def test_r_leaves_the_name_of_its_row_numbers_out():
    cells = [["satz", "frage"], ["1", "a", "b"], ["2", "c", "d"]]
    assert width(cells) == 3
    assert find_names("f", cells, None, None) == (True, ("Unnamed: 0", "satz", "frage"))
    assert width([["satz", "frage"], ["x", "a", "b"], ["2", "c", "d"]]) == 0
    assert width([["a"], ["b", "c"], ["d"]]) == 0
