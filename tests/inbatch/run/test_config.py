from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inbatch.errors import MissingError, UsageError
from inbatch.recipes import methods
from inbatch.run.config import keep_path, locate_configs, read_configs

INFONCE = "inbatch.losses.contrastive.infonce.InfoNCE"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(arguments: list[str]) -> list[dict]:
    return [yaml.safe_load(word.removeprefix("--config=")) for word in read_configs(arguments) if "--config=" in word]


@pytest.mark.parametrize("words", [["--config", "a.yaml"], ["--config=a.yaml"], ["-c", "a.yaml"]])
def test_arguments_keep_their_order_and_the_last_file_names_the_run(words: list[str]):
    for name in ("a.yaml", "row.v2.yaml"):
        Path(name).write_text("seed_everything: 1")
    located, name = locate_configs([*words, "--x=1", "--config", "row.v2.yaml", "--y", "2"])
    option = words[0].partition("=")[0]
    assert located == [option, "a.yaml", "--x=1", "--config", "row.v2.yaml", "--y", "2"]
    assert name == "row.v2"
    assert locate_configs(["--config", str(Path("a.yaml").absolute())])[1] == "a"
    assert locate_configs(["--config", "simcse/unsup-bert-base.yaml"])[1] == "simcse-unsup-bert-base"
    assert locate_configs(["--x=1"]) == (["--x=1"], None)


@pytest.mark.parametrize("words", [["--config"], ["--config="]])
def test_a_config_without_a_file_is_refused(words: list[str]):
    with pytest.raises(UsageError, match="expected a YAML file after --config; got nothing"):
        locate_configs(words)


@pytest.mark.parametrize("method", methods())
def test_a_folder_lists_its_recipes_and_is_no_mistake(method: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        locate_configs(["--config", f"{method}/"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert f"\n  {method}/" in printed
    assert f"inbatch fit --config {method}/" in printed
    assert "shared.yaml" not in printed


def test_a_file_is_read_behind_what_it_stands_on():
    Path("base.yaml").write_text("trainer: {max_steps: 1}")
    Path("shared.yaml").write_text("extends: [base.yaml]\nseed_everything: 3")
    Path("mine.yaml").write_text(
        "extends: [shared.yaml]\nrecipe: {title: mine, status: starting point}\nmodel: {objective: {class_path: InfoNCE}}"
    )
    found = settings(["--config", "mine.yaml"])
    assert found == [
        {"trainer": {"max_steps": 1}},
        {"seed_everything": 3},
        {"model": {"objective": {"class_path": INFONCE}}},
    ]
    # A command that names all of them goes on to mean the same, in any order of its options.
    assert read_configs(["--config", "base.yaml", "--config=shared.yaml", "-c", "mine.yaml"])[:3] == read_configs(
        ["--config", "mine.yaml"]
    )
    assert read_configs(["--x=1", "--config", "mine.yaml", "--y", "2"])[0] == "--x=1"
    assert read_configs(["--config", "mine.yaml", "--y", "2"])[-2:] == ["--y", "2"]


def test_settings_keep_their_types_on_the_way():
    content = "a: 1.0e-05\nb: 'null'\nc: null\nd: [1, '1', 2020-01-01]\ne: \"x\\n\\ny\"\nf: 'on'"
    Path("a.yaml").write_text(content)
    assert settings(["--config", "a.yaml"]) == [yaml.safe_load(content)]
    Path("empty.yaml").write_text("")
    assert read_configs(["--config", "empty.yaml"]) == []


def test_settings_in_the_place_of_a_file_are_left_as_they_are():
    assert read_configs(["--config={a: 1}"]) == ["--config={a: 1}"]


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["--evaluators.dev.class_path=Retrieval"], "=inbatch.experiments.evaluation.retrieval.Retrieval"),
        (["--evaluators.dev.class_path", "Retrieval"], "inbatch.experiments.evaluation.retrieval.Retrieval"),
        (["--model.objective={class_path: InfoNCE}"], f"{{class_path: {INFONCE}}}"),
        (["--model.objective=InfoNCE"], "--model.objective=InfoNCE"),
        (["--model.objective", "InfoNCE"], "InfoNCE"),
        (["--data.sources=class_path.csv"], "--data.sources=class_path.csv"),
    ],
)
def test_options_name_classes_in_short(words: list[str], last: str):
    assert read_configs(words)[-1].endswith(last)


def test_what_is_wrong_with_a_file_is_said():
    Path("a.yaml").write_text("extends: [b.yaml]")
    Path("b.yaml").write_text("extends: [a.yaml]")
    with pytest.raises(UsageError, match=r"a\.yaml extends itself: a\.yaml -> b\.yaml -> a\.yaml\."):
        read_configs(["--config", "a.yaml"])
    Path("b.yaml").write_text("recipe: {titel: x}")
    with pytest.raises(UsageError, match="a recipe has no entry titel. Did you mean title?"):
        read_configs(["--config", "a.yaml"])
    Path("a.yaml").write_text("extends: [simcse/shraed.yaml]")
    with pytest.raises(MissingError, match=r"which a\.yaml extends, .* Did you mean simcse/shared\.yaml\?"):
        read_configs(["--config", "a.yaml"])


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
