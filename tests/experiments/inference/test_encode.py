import gzip
import io
import sys
import types

import numpy
import pytest

from inbatch import cli


def test_row_i_is_line_i(loaded, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("red fox\n\nblue\u2028sea\n", encoding="utf8")
    out = tmp_path / "x.npy"
    assert cli.main(["encode", "model", str(tmp_path / "in.txt"), "--out", str(out), "--max-length", "7"]) == 0
    array = numpy.load(out)
    assert array.dtype == numpy.float32
    assert array.shape == (3, 4096)
    assert numpy.array_equal(array, loaded.encode(["red fox", "", "blue\u2028sea"]).numpy())
    assert loaded.calls[0]["max_length"] == 7
    assert "3 x 4096 float32" in capsys.readouterr().err


def test_rows_of_zeros_are_said(loaded, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("red\n\nfox\n\n")
    assert cli.main(["encode", "model", str(tmp_path / "in.txt"), "--out", str(tmp_path / "x.npy")]) == 0
    assert (
        "2 of 4 rows are exactly zero, and have no direction; the first is row 2, counted from 1"
        in capsys.readouterr().err
    )


def test_a_column_of_a_table_is_encoded_row_by_row(loaded, tmp_path):
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.write('{"q": "red fox", "a": "x"}\n{"a": "y"}\n{"q": "b \\ud800", "a": "z"}\n')
    command = ["encode", "model", str(tmp_path / "in.jsonl.gz"), "--out", str(tmp_path / "x.npy")]
    assert cli.main([*command, "--column", "q"]) == 0
    assert loaded.calls[0]["texts"] == ["red fox", "", "b \ufffd"]
    assert numpy.load(tmp_path / "x.npy").shape == (3, 4096)


def test_braces_say_how_the_file_is_read(loaded, tmp_path, capsys):
    (tmp_path / "in.csv").write_bytes("frage;wort\nred fox;gro\u00df\nblue sea;\n".encode("cp1252"))
    where, out = tmp_path / "in.csv", ["--out", str(tmp_path / "x.npy")]
    command = ["encode", "model", f"{{path: {where}, encoding: cp1252, columns: {{anchor: wort}}}}", *out]
    assert cli.main(command) == 0
    assert loaded.calls[0]["texts"] == ["gro\u00df", ""]
    assert cli.main(["encode", "model", f"{{path: {where}, encoding: latin1, header: true}}", *out]) == 2
    assert "it holds frage, wort. Say which it is: --column frage" in capsys.readouterr().err
    assert cli.main(["encode", "model", f"{{path: {where}, columns: wort}}", *out]) == 2
    assert "columns: expected dict" in capsys.readouterr().err


def test_texts_come_from_stdin_and_take_a_prompt(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a\nb")))
    assert cli.main(["encode", "model", "-", "--out", str(tmp_path / "x.npy"), "--prompt-name", "query"]) == 0
    assert numpy.load(tmp_path / "x.npy").shape == (2, 4096)
    assert loaded.calls[0]["prompt_name"] == "query"


@pytest.mark.parametrize(
    ("content", "words", "code", "says"),
    [
        (b"a\n", ["in.txt", "--out", "x.txt"], 2, "ends in .npy"),
        (b"a\n", ["in.txt", "--out", "no/x.npy"], 3, "mkdir -p no"),
        (b"a\n", ["other.txt", "--out", "x.npy"], 3, "other.txt"),
        (b"", ["in.txt", "--out", "x.npy"], 2, "empty"),
        (b"a\n\xff\n", ["in.txt", "--out", "x.npy"], 2, "line 2"),
        (b"a\n", ["in.txt", "--out", "x.npy", "--token-budget", "0"], 2, "--token-budget"),
        (b"a\n", ["in.txt"], 2, "--out"),
        (b"a\n", ["in.txt", "--outt", "x.npy"], 2, "--out"),
        (b"a\n", ["in.txt", "--out", "x.npy", "--column", "a"], 2, "line by line"),
    ],
)
def test_bad_input_is_refused_before_encoding(content, words, code, says, loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_bytes(content)
    assert cli.main(["encode", "model", *words]) == code
    assert says in capsys.readouterr().err
    assert not loaded.calls
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_a_failure_leaves_the_old_file(loaded, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "x.npy").write_text("old")

    def full(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numpy, "save", full)
    assert cli.main(["encode", "model", str(tmp_path / "in.txt"), "--out", str(tmp_path / "x.npy")]) == 1
    assert (tmp_path / "x.npy").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_any_prompt_of_the_model_and_an_instruction(tmp_path, capsys):
    from inbatch.models.backbones.pretrained import TinyRandom
    from inbatch.models.encoder import Encoder

    prompts = {"query": "Instruct: {instruction}\nQuery: ", "topic": "topic: "}
    encoder = Encoder(
        TinyRandom("llama"), pooling="last", prompts=prompts, ensembles={"both": ["topic", "document"]}
    ).eval()
    encoder.save_pretrained(tmp_path / "model")
    (tmp_path / "in.txt").write_text("a text\nanother\n")
    base = ["encode", str(tmp_path / "model"), str(tmp_path / "in.txt"), "--out", str(tmp_path / "x.npy")]
    for options, given in (
        (["--prompt-name", "query", "--instruction", "find it"], {"prompt_name": "query", "instruction": "find it"}),
        (["--prompt-name", "both"], {"prompt_name": "both"}),
    ):
        assert cli.main([*base, *options]) == 0
        expected = encoder.encode(["a text", "another"], **given).numpy()
        numpy.testing.assert_allclose(numpy.load(tmp_path / "x.npy"), expected, atol=1e-6)
    assert cli.main([*base, "--prompt-name", "query"]) == 2
    assert "has its place" in capsys.readouterr().err
    assert cli.main([*base, "--prompt-name", "none"]) == 2
    assert "expected prompt_name to be one of both, document, query, topic" in capsys.readouterr().err
    Encoder(TinyRandom("llama"), pooling="last").eval().save_pretrained(tmp_path / "plain")
    assert cli.main(["encode", str(tmp_path / "plain"), *base[2:], "--instruction", "find it"]) == 2
    assert "expected a place for --instruction in the prompt that is used by default" in capsys.readouterr().err
    assert cli.main([*base, "--instruction", "find it"]) == 2  # it would be left out without a word
    assert "takes it with --prompt-name query" in capsys.readouterr().err
