from __future__ import annotations

import json
from pathlib import Path

import pytest

from inbatch import recipe_list, recipes
from inbatch.errors import MissingError, UsageError
from inbatch.recipes import chain, command, command_for, find_config, names, names_config, packaged, read, recipe_of

GOOD = (
    "recipe: {title: x, status: measured, table: t, claims: {a/b: 1.5, c: 2}, files: {a.csv: [x, y]}, options: [--a=1]}"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(content: str, name: str = "a.yaml") -> Path:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(content)
    return Path(name)


def test_a_path_wins_and_a_packaged_name_is_found():
    found = find_config("simcse/unsup-bert-base.yaml")
    assert found.is_absolute()
    assert found.is_file()
    written("seed_everything: 1", "simcse/unsup-bert-base.yaml")
    assert find_config("simcse/unsup-bert-base.yaml") == Path("simcse/unsup-bert-base.yaml")


def test_a_file_beside_the_one_that_names_it_wins():
    for name in ("own/base.yaml", "base.yaml"):
        written("seed_everything: 1", name)
    assert find_config("base.yaml", Path("own/x.yaml")) == Path("own/base.yaml")
    assert find_config("base.yaml", Path("other/x.yaml")) == Path("base.yaml")
    assert find_config("simcse/shared.yaml", Path("own/x.yaml")) == packaged() / "simcse/shared.yaml"


def test_a_missing_file_is_answered_with_the_near_or_the_methods_or_what_is_in_one():
    with pytest.raises(MissingError, match=r"Did you mean simcse/unsup-bert-base\.yaml\?"):
        find_config("simcse/unsup-bert.yaml")
    with pytest.raises(
        MissingError, match=r"Packaged are: base\.yaml, quickstart\.yaml, and recipes of angle, .*, small-llm;"
    ):
        find_config("/zzz")
    with pytest.raises(MissingError, match=r"Packaged in simcse/ are: simcse/cpu-minilm\.yaml, .*-mlm\.yaml") as error:
        find_config("simcse/zzzzzzzzzzzzzzzzzzzzzzzzzzzz")
    assert "promcse" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "means"), [("a.yaml", True), ("b.yml", True), ("gcse/", True), ("gcs", False), ("minilm", False)]
)
def test_words_that_mean_a_configuration(word: str, means: bool):
    assert names_config(word) == means


def test_a_file_may_not_set_what_the_seed_decides():
    with pytest.raises(UsageError, match=r"data\.seed is set by seed_everything"):
        read(written("data: {seed: 1}"))
    with pytest.raises(UsageError, match=r"data\.seed is set by seed_everything"):
        read(written("\ufeffdata: {seed: 1}"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("data: [", r"expected YAML in a\.yaml; got an error at line [12]: "),
        ("a: b: c", r"expected YAML in a\.yaml; got an error at line 1: .*\. Mend that line\."),
        ("- a", r"expected settings, `name: value`, in a\.yaml; got list\."),
        ("\x01", r"expected YAML in a\.yaml; got an error"),
    ],
)
def test_what_is_no_settings_is_refused(content: str, said: str):
    with pytest.raises(UsageError, match=said):
        read(written(content))


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16", "utf-16"), ("latin1", "cp1252"), ("cp1252", "cp1252"), ("utf-16-be", "utf-16")]
)
def test_a_file_in_another_encoding_is_refused_with_what_converts_it(encoding: str, named: str):
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    Path("my a.yaml").write_bytes(mark + "# é\nseed_everything: 1\n".encode(encoding))
    with pytest.raises(UsageError, match=f"expected UTF-8 in .*: iconv -f {named} -t utf-8 'my a.yaml' > utf8.yaml"):
        read(Path("my a.yaml"))


def test_bases_come_first_each_once_and_deepest_first():
    written("", "own/base.yaml")
    written("extends: [base.yaml]", "own/one.yaml")
    written("extends: [base.yaml]", "own/two.yaml")
    last = written("extends: [one.yaml, two.yaml]", "own/last.yaml")
    assert [path.name for path in chain(last)] == ["base.yaml", "one.yaml", "two.yaml", "last.yaml"]
    assert chain(Path("own/base.yaml")) == [Path("own/base.yaml")]


def test_a_circle_is_refused_with_its_way():
    written("extends: [b.yaml]")
    written("extends: [c.yaml]", "b.yaml")
    written("extends: [b.yaml]", "c.yaml")
    with pytest.raises(UsageError, match=r"^b\.yaml extends itself: b\.yaml -> c\.yaml -> b\.yaml\. Take it out"):
        chain(Path("a.yaml"))
    with pytest.raises(UsageError, match=r"^a\.yaml extends itself: a\.yaml -> a\.yaml\."):
        chain(written("extends: [a.yaml]"))


@pytest.mark.parametrize("value", ["base.yaml", "[1]", "{a: b}"])
def test_extends_is_a_list_of_names(value: str):
    with pytest.raises(UsageError, match=r"expected extends: \[FILE, …\] in a\.yaml; got"):
        chain(written(f"extends: {value}"))


def test_a_recipe_is_read_as_its_schema_says():
    recipe = recipe_of(written(GOOD))
    assert recipe is not None
    assert (recipe.claims, recipe.files, recipe.options) == ({"a/b": 1.5, "c": 2}, {"a.csv": ["x", "y"]}, ["--a=1"])
    assert recipe_of(written("seed_everything: 1")) is None


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("yes", r"expected recipe: \{title: …, status: …\} in a\.yaml; got True\."),
        ("{title: x, status: measured, clams: {}}", "a recipe has no entry clams. Did you mean claims?"),
        ("{title: x, status: measured, zzz: 1}", "a recipe has no entry zzz. It has title, status, paper,"),
        ("{title: x}", "expected recipe.status; there is none."),
        ("{status: measured}", "expected recipe.title; there is none."),
        ("{title: x, status: done}", "expected recipe.status as one of not yet run, measured, reproduced, starting point; got 'done'."),
        ("{title: 3, status: measured}", "expected recipe.title as a text; got 3."),
        ("{title: x, status: measured, arxiv: 2104.08821}", "expected recipe.arxiv as a text; got 2104.08821."),
        ("{title: x, status: measured, claims: {a: b}, table: t}", r"recipe.claims as a mapping \{NAME: NUMBER\}; got"),
        ("{title: x, status: measured, claims: {a: true}, table: t}", r"recipe.claims as a mapping \{NAME: NUMBER\}; got"),
        ("{title: x, status: measured, options: --a=1}", r"recipe.options as a list \[TEXT, …\]; got '--a=1'"),
        ("{title: x, status: measured, files: {a.csv: x}}", r"recipe.files as a mapping \{FILE: \[COLUMN, …\]\}; got"),
        ("{title: x, status: measured, claims: {a: 1}}", "expected recipe.table beside claims; there is none."),
        ("{title: x, status: measured, stage_after: gcse/stage1.yaml}", "there is no recipe gcse/stage1.yaml, which recipe.stage_after names"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_schema_is_refused(recipe: str, said: str):
    with pytest.raises(UsageError, match=said) as error:
        recipe_of(written(f"recipe: {recipe}"))
    assert "a.yaml" in str(error.value)


def test_commands():
    assert command("simcse/sup-bert-base.yaml") == "inbatch fit --config simcse/sup-bert-base.yaml"
    assert command("own/pairs.yaml") == "inbatch fit --config own/pairs.yaml --data.sources=pairs.csv"
    assert command("mine.yaml") == "inbatch fit --config mine.yaml"
    # One that says itself where its run goes, and one that does not.
    assert command_for("gcse-stage1-bert-base") == "inbatch fit --config gcse/stage1-bert-base.yaml"
    run = "simcse-unsup-bert-base"
    assert command_for(run) == f"inbatch fit --config simcse/unsup-bert-base.yaml --run_dir runs/{run}"
    assert command_for("nothing") is None
    assert command_for("gcse-shared") is None


def test_names_are_those_of_the_files():
    assert {"base.yaml", "quickstart.yaml", "gcse/shared.yaml"} <= set(names())
    assert len(recipes.methods()) > 20


def test_the_list_shows_claim_status_and_title():
    printed = recipe_list.lay_out(["gcse"])
    assert printed.startswith("gcse: Lai et al. 2025, Enhancing Unsupervised")
    row = next(line for line in printed.splitlines() if "gcse/bert-base.yaml" in line)
    assert row.split("  ", 2)[1] == "gcse/bert-base.yaml"
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][1:3] == ["sts/avg 81.98", "not yet run"]
    assert row.endswith("GCSE, BERT-base, Gaussian-decayed loss on triples")
    assert "train one, such as: inbatch fit --config gcse/cpu-minilm.yaml" in printed
    whole = recipe_list.lay_out()
    assert all(name in whole for name, _ in recipe_list.listed())


def test_programs_get_every_entry():
    found = json.loads(json.dumps(recipe_list.as_data(["simcse"])))
    one = next(entry for entry in found if entry["name"] == "simcse/unsup-bert-base.yaml")
    assert one["claims"]["sts/avg"] == 76.25
    assert one["command"] == command(one["name"])


def test_documents_get_a_table():
    first, rule, *rows = recipe_list.as_markdown(["simcse"]).splitlines()
    assert first.count("|") == rule.count("|") == 6
    assert len(rows) == len(list(recipe_list.listed(["simcse"])))
    assert all(row.count("|") == 6 for row in rows)
