"""What the README shows, works: its Python runs, its commands and files exist, and it stays short."""

import re
import shlex
from pathlib import Path

import pytest

from inbatch.cli import VERBS
from inbatch.recipe_list import listed
from inbatch.recipes import command, find_config
from inbatch.run.config import locate_configs
from inbatch.run.options import FitCLI

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")


def test_it_is_short():
    assert len(README.splitlines()) <= 110


def test_the_python_block_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    scope = {}
    exec(blocks[0], scope)
    assert scope["loss"].requires_grad
    assert all(p.grad is not None for p in scope["encoder"].parameters() if p.requires_grad)


def test_its_commands_are_verbs_and_its_configs_exist():
    shown = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    lines = re.findall(r"^(?:\.venv/bin/)?inbatch (\w+)", shown, re.MULTILINE)
    assert len(lines) >= 5
    assert set(lines) <= VERBS.keys()
    configs = set(re.findall(r"--config ([\w/-]+\.yaml)", README))
    assert len(configs) >= 2
    for name in configs:
        assert find_config(name).is_file()


def test_its_recipe_is_given_with_its_own_command_and_claim():
    (name,) = re.findall(r"^inbatch recipes show (.+)$", README, re.MULTILINE)
    assert f"\n{command(name)}\n" in README
    recipe = dict(listed())[name]
    assert str(recipe.claims["sts/avg"]) in README
    assert recipe.status == "not yet run"
    assert "has not been run here" in README


def test_its_way_to_name_columns_can_be_read():
    (line,) = re.findall(r"`('--data\.sources=.+?')`", README)
    third = re.search(r"^\.venv/bin/inbatch fit (.+)$", README, re.MULTILINE)
    assert third
    source = FitCLI(locate_configs(shlex.split(f"{third[1]} {line}"))[0]).config.data.sources
    assert (source.path, source.columns) == ("pairs.csv", {"anchor": "question", "positive": "reply"})


@pytest.mark.parametrize("target", ["quickstart", "test"])
def test_its_two_commands_are_targets(target):
    assert f"make {target} " in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
