import argparse
import json
import math
import sys

import pytest

from inbatch.errors import MissingError, UsageError
from inbatch.experiments import output


def test_a_file_that_can_be_written_passes(tmp_path):
    output.prepare_file(None)
    output.prepare_file(tmp_path / "x.json")
    output.prepare_file("x.npy", ".npy")
    assert not list(tmp_path.iterdir())  # asked, not written


@pytest.mark.parametrize("name", ["x.txt", "x", "x.npy.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"ends in \.npy"):
        output.prepare_file(tmp_path / name, ".npy")


def test_a_folder_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingError, match="mkdir -p"):
        output.prepare_file(tmp_path / "no" / "x.json")


def test_a_folder_in_the_files_place_is_refused(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(UsageError, match="can be written"):
        output.prepare_file(tmp_path / "x.json")


def test_report_writes_json_without_nan_to_both_places(tmp_path, capsys):
    args = argparse.Namespace(json=True, out=tmp_path / "r.json")
    output.report(args, {"a": math.nan, "b": [1.5, {"c": math.inf}], "d": (1, "x")}, "screen")
    expected = {"a": None, "b": [1.5, {"c": None}], "d": [1, "x"]}
    assert json.loads(capsys.readouterr().out) == expected
    assert json.loads((tmp_path / "r.json").read_text()) == expected


def test_report_prints_the_screen_by_default(capsys):
    output.report(argparse.Namespace(json=False, out=None), {"a": 1}, "screen")
    assert capsys.readouterr().out == "screen\n"


def test_a_plain_table_is_aligned_and_has_no_trailing_spaces():
    text = output.table("Title", ["set", "n"], [["a", "10"], ["long name", "1"]], "a note")
    assert text == "Title\n\nset         n\n---------  --\na          10\nlong name   1\n\na note"


def test_a_terminal_gets_a_frame(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = output.table("Title", ["set", "n"], [["[a]", "10"]], "a note")
    assert "Title" in text
    assert "[a]" in text  # square brackets are not rich's markup
    assert "│" in text
