from __future__ import annotations

from pathlib import Path

import pytest

from inbatch.config import (
    find_config,
    keep_path,
    list_folder,
    locate_configs,
    names_config,
    options_for,
)
from inbatch.errors import MissingError, UsageError


def test_a_path_wins_and_a_packaged_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    packaged = find_config("simcse/unsup-bert-base.yaml")
    assert packaged.is_absolute()
    assert packaged.is_file()
    (tmp_path / "simcse").mkdir()
    own = tmp_path / "simcse" / "unsup-bert-base.yaml"
    own.write_text("seed_everything: 1")
    assert find_config("simcse/unsup-bert-base.yaml") == Path("simcse/unsup-bert-base.yaml")


@pytest.mark.parametrize("words", [["--config", "a.yaml"], ["--config=a.yaml"], ["-c", "a.yaml"]])
def test_arguments_keep_their_order_and_the_last_file_names_the_run(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "row.v2.yaml"):
        Path(name).write_text("seed_everything: 1")
    located, name = locate_configs([*words, "--x=1", "--config", "row.v2.yaml", "--y", "2"])
    option = words[0].partition("=")[0]
    assert located == [option, "a.yaml", "--x=1", "--config", "row.v2.yaml", "--y", "2"]
    assert name == "row.v2"
    assert locate_configs(["--config", str(Path("a.yaml").absolute())])[1] == "a"
    assert locate_configs(["--config", "simcse/unsup-bert-base.yaml"])[1] == "simcse-unsup-bert-base"
    assert locate_configs(["--x=1"]) == (["--x=1"], None)


def test_a_missing_file_is_answered_with_the_near_or_the_folders_or_what_is_in_one():
    with pytest.raises(MissingError, match=r"Did you mean simcse/unsup-bert-base\.yaml\?"):
        find_config("simcse/unsup-bert.yaml")
    with pytest.raises(
        MissingError, match=r"Packaged are: base\.yaml, quickstart\.yaml, and rows in angle/, .*, small-llm/;"
    ):
        find_config("/zzz")
    with pytest.raises(MissingError, match=r"Packaged in simcse/ are: simcse/cpu-minilm\.yaml, .*-mlm\.yaml") as error:
        find_config("simcse/zzzzzzzzzzzzzzzzzzzzzzzzzzzz")
    assert "promcse" not in str(error.value)


FOLDERS = sorted({path.parent.name for path in find_config("base.yaml").parent.glob("*/*.yaml")})


def test_there_are_folders_of_rows():
    assert len(FOLDERS) > 20
    assert {"small-llm", "gcse"} <= set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_lists_its_rows_and_is_no_mistake(folder: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        locate_configs(["--config", f"{folder}/"])
    assert left.value.code == 0
    first, *files, last = capsys.readouterr().out.splitlines()
    assert first == f"packaged in {folder}/ (nothing was trained):"
    assert sorted(line.split()[0] for line in files) == sorted(
        f"{folder}/{path.name}" for path in find_config("base.yaml").parent.glob(f"{folder}/*.yaml")
    )
    assert all(len(line.split()) > 3 and "# " not in line and len(line) < 140 for line in files)
    options = last.partition("inbatch fit ")[2].split()
    assert options[-1].startswith(f"{folder}/")
    assert "shared.yaml" not in options[-1]
    locate_configs(options)


def test_a_list_shows_the_claims_cut_to_a_line():
    listed = list_folder("gcse")
    assert "gcse/bert-base.yaml             GCSE, BERT-base: average of 7 STS tasks 81.98 (README" in listed
    assert "gcse/shared.yaml                What GCSE's rows share" in listed
    assert list_folder("gcse/") == listed


def test_a_row_stands_on_the_files_that_its_header_names():
    assert options_for("simcse/sup-bert-base.yaml") == (
        "--config base.yaml --config simcse/shared.yaml --config simcse/sup-bert-base.yaml"
    )
    assert options_for("base.yaml") == "--config base.yaml"
    assert options_for("mine.yaml") == "--config mine.yaml"


@pytest.mark.parametrize(
    ("word", "means"), [("a.yaml", True), ("b.yml", True), ("gcse/", True), ("gcs", False), ("minilm", False)]
)
def test_words_that_mean_a_configuration(word: str, means: bool):
    assert names_config(word) == means


def test_a_file_may_not_set_what_the_seed_decides(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {seed: 1}")
    with pytest.raises(UsageError, match="data.seed is set by seed_everything"):
        locate_configs(["--config", str(path)])
    path.write_text("data: [", encoding="utf8")  # left to the parser
    locate_configs(["--config", str(path)])


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16", "utf-16"), ("latin1", "cp1252"), ("cp1252", "cp1252"), ("utf-16-be", "utf-16")]
)
def test_a_file_in_another_encoding_is_refused_with_what_converts_it(tmp_path: Path, encoding: str, named: str):
    path = tmp_path / "a.yaml"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + "# é\nseed_everything: 1\n".encode(encoding))
    with pytest.raises(UsageError, match=f"expected UTF-8 in .*: iconv -f {named} -t utf-8 {path} > utf8.yaml"):
        locate_configs(["--config", str(path)])


def test_a_byte_order_mark_of_a_file_is_no_part_of_its_first_key(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffdata: {seed: 1}".encode())
    with pytest.raises(UsageError, match=r"data\.seed is set by seed_everything"):
        locate_configs(["--config", str(path)])


@pytest.mark.parametrize("words", [["--data.sources=a.csv"], ["--data.sources", "a.csv"]])
def test_a_file_stands_beside_the_fields_of_its_source(words: list[str]):
    columns = ["--data.sources.columns={anchor: q, positive: [a]}"]
    assert keep_path([*words, *columns]) == [*words, "--data.sources.path=a.csv", *columns]
    assert keep_path([*words, "--data.sources.view", "pair"])[-3:] == [
        "--data.sources.path=a.csv", "--data.sources.view", "pair",
    ]  # fmt: skip
    for alone in (words, columns, ["--data.sources"], ["--data.sources={path: a.csv}", *columns]):
        assert keep_path(alone) == alone


@pytest.mark.parametrize("value", ["path:a.csv", "columns:anchor:q"])
def test_a_source_that_a_shell_took_apart_is_answered_with_how_to_write_it(value: str):
    with pytest.raises(UsageError, match=f"and the whole in quotes: '--data.sources={{path: .*; got {value}"):
        keep_path([f"--data.sources={value}"])


@pytest.mark.parametrize("value", ["{anchor:q,positive:a}", "anchor:q", "{anchor:", "q", "[q, a]", "{anchor: q"])
def test_columns_that_are_no_mapping_are_answered_with_how_to_write_them(value: str):
    with pytest.raises(UsageError) as error:
        keep_path(["--data.sources.path=a.csv", f"--data.sources.columns={value}"])
    assert "in quotes: '--data.sources={path: FILE, columns: {anchor: NAME, positive: NAME}}'; got " in str(error.value)
