import argparse
import gzip
import io
import sys
import types

import pytest

from inbatch.errors import MissingError, UsageError
from inbatch.experiments import command


def arguments(**changes):
    parser = argparse.ArgumentParser()
    command.add_encoder_arguments(parser)
    args = parser.parse_args(["model"])
    return argparse.Namespace(**{**vars(args), **changes})


@pytest.mark.parametrize(("option", "name"), [("max_length", "--max-length"), ("token_budget", "--token-budget")])
def test_lengths_below_one_are_refused(option, name):
    with pytest.raises(UsageError, match=f"{name} of at least 1; got 0"):
        command.load_encoder(arguments(**{option: 0}))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(UsageError, match="--device"):
        command.load_encoder(arguments(device=device))


def test_a_given_device_is_kept():
    assert command.find_device("cpu") == "cpu"


def test_what_was_evaluated_is_named(bag_of_words):
    result = command.describe_encoder("folder", bag_of_words)
    assert result == {"model": "folder", "pooling": "sum", "dim": 4096, "device": "cpu"}
    assert command.headline(result) == "folder: sum pooling, 4096 dimensions, on cpu"


def test_lines_keep_blank_ones_and_separators_inside_a_text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes("a\n\nb\u2028c\r\nd".encode())
    assert command.read_lines(str(path)) == ["a", "", "b\u2028c", "d"]


@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_are_decoded_and_decompressed_as_training_data_are(tmp_path, mark, pack):
    path = tmp_path / ("IN.TXT.GZ" if pack is gzip.compress else "in.txt")
    path.write_bytes(pack("\u00e9 one\r\ntwo\n".encode(mark)))
    assert command.read_lines(str(path)) == ["\u00e9 one", "two"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(tmp_path, capsys, encoding):
    path = tmp_path / "in.txt"
    path.write_bytes("é\n你好\n".encode(encoding))
    assert command.read_lines(str(path)) == ["é", "你好"]
    said = {"utf-16": "read as UTF-16-LE", "utf-32": "read as UTF-32-LE"}.get(encoding, "")
    assert said in capsys.readouterr().err


def test_lines_come_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert command.read_lines("-") == ["a", "b"]


@pytest.mark.parametrize(("content", "says"), [(b"", "empty"), (b" \n\n", "empty"), (b"a\n\xffb\n", "line 2 is not")])
def test_content_that_is_no_text_is_refused(tmp_path, content, says):
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        command.read_lines(str(path))


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    with pytest.raises(MissingError, match=r"printf .* > .*no\.txt"):
        command.read_lines(str(tmp_path / "no.txt"))
    with pytest.raises(UsageError, match="can be read"):
        command.read_lines(str(tmp_path))
