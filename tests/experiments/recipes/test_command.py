from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from inbatch.cli import main
from inbatch.experiments.recipes.command import show
from inbatch.recipes import chain, find_config, methods, read


def test_the_list_needs_nothing_heavy():
    code = "import sys; from inbatch.cli import main; assert main(['recipes']) == 0; print(sorted({'torch', 'numpy', 'lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_lists(capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", "gcse/", "simcse"]) == 0
    printed = capsys.readouterr().out
    assert "gcse/bert-base.yaml" in printed
    assert "promcse" not in printed
    assert main(["recipes", "gcse", "--json"]) == 0
    assert {entry["name"].split("/")[0] for entry in json.loads(capsys.readouterr().out)} == {"gcse"}
    assert main(["recipes", "gcse", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| recipe |")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["gces"], 2, "there are no recipes of gces. Did you mean gcse?"),
        (["zzzzzz"], 2, f"there are no recipes of zzzzzz. There are {', '.join(methods())}."),
        (["show"], 2, "expected one name after show, such as `inbatch recipes show simcse/unsup-bert-base.yaml`."),
        (["show", "simcse/unsup-bert-bse.yaml"], 3, "Did you mean simcse/unsup-bert-base.yaml?"),
    ],
)
def test_wrong_names_are_answered(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["recipes", *words]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["simcse/unsup-bert-base.yaml", "autoregembed/stage2-llama2-7b.yaml", "own/pairs.yaml"]
)
def test_every_setting_is_shown_with_the_file_that_makes_it(name: str):
    lines = list(show(name))
    about, settings = lines[0], [line for line in lines[lines.index("") + 1 :]]
    assert f"inbatch fit --config {name}" in about
    shown = yaml.safe_load("\n".join(settings))
    files = {path.name: read(path) for path in chain(find_config(name))}
    origins = {line.rpartition("  # ")[2].split("/")[-1] for line in settings if "  # " in line}
    assert origins <= {*files, "the command"}
    # A later file wins: what the recipe's own file says is what is shown, and said to come from it.
    own = files[name.split("/")[-1]]
    assert shown["data"]["batch_size"] == own["data"]["batch_size"]
    line = next(line for line in settings if line.strip().startswith("batch_size:"))
    assert line.endswith(f"# {name}")
