"""The classes and files that docs/extend.md shows, written down and used by the commands that it shows."""

import json
import re
import shlex
from pathlib import Path

import pytest
from pages import blocks, files, read

from inbatch import cli
from inbatch.models import Encoder, TinyRandom

PAGE = "docs/extend.md"
FILES = files(PAGE)
LINES = [line for block in blocks(PAGE) if block.language == "sh" for line in block.content.splitlines()]
RUNS = [line for line in LINES if line.startswith("PYTHONPATH=. inbatch fit ")]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, content in FILES.items():
        Path(name).write_text(content, encoding="utf8")


def test_every_class_has_a_command():
    classes = [name.removesuffix(".py") for name in FILES if name.endswith(".py")]
    assert classes == [re.search(r"=(mine_\w+)\.", line)[1] for line in RUNS]
    headings = re.findall(r"^## An? (\w+)", read(PAGE), re.MULTILINE)
    assert headings == ["loss", "backbone", "evaluator", "recipe", "data"]


def test_a_snippet_is_short():
    for name, content in FILES.items():
        assert len([line for line in content.splitlines() if line.strip()]) <= 12, name


@pytest.mark.parametrize("line", RUNS, ids=[re.search(r"=mine_\w+\.(\w+)", line)[1] for line in RUNS])
def test_the_commands_train(line):
    if "FOLDER" in line:
        Encoder(TinyRandom("bert", num_layers=4)).eval().save_pretrained("base")
    words = shlex.split(line.replace("=FOLDER", "=base"))[2:]
    assert cli.main([*words, "--run_dir", "run"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    tags = {tag for line in lines for tag in line}
    assert {"train/loss"} <= tags
    if "CosineGap" in line:
        assert "train/gap" in tags
        assert "margin: 0.2" in Path("run/config.yaml").read_text()
    if "Uniformity" in line:
        assert {"val/mine/uniformity", "test/mine/uniformity"} <= tags
    if "EverySecondLayer" in line:
        assert Encoder.from_pretrained("run/export").backbone.config.num_hidden_layers == 2


def test_the_recipe_is_shown_with_what_it_builds_on(capsys):
    assert cli.main(["recipes", "show", "mine_recipe.yaml"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"temperature: 0.02 +# mine_recipe.yaml", shown)
    assert re.search(r"max_steps: 500 +# own/pairs.yaml", shown)
    assert re.search(r"command +inbatch fit --config mine_recipe.yaml", shown)
