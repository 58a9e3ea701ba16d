"""What the README shows, works: its Python runs, its commands and files exist."""

import re
import shlex
from pathlib import Path

import pytest

from inbatch import cli
from inbatch.callbacks.signals import EXIT_CODES
from inbatch.cli import VERBS
from inbatch.errors import MissingError, TrainingError, UsageError
from inbatch.recipes import find_config
from inbatch.run.config import locate_configs
from inbatch.run.options import FitCLI

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")


def test_the_python_block_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    scope = {}
    exec(blocks[0], scope)
    assert scope["loss"].requires_grad
    assert all(p.grad is not None for p in scope["encoder"].parameters() if p.requires_grad)


def test_its_commands_are_verbs_and_its_configs_exist():
    for verb in re.findall(r"inbatch (\w+) ", README):
        assert verb in VERBS or verb in ("trains", "doctor"), verb
    configs = {name for name in re.findall(r"--config ([\w/-]+\.yaml)", README) if name not in ("A.yaml", "B.yaml")}
    assert len(configs) >= 3
    for name in configs:
        assert find_config(name).is_file()


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


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_its_exit_codes_are_those_of_the_program():
    for code in ("0 done", "2 usage", "3 something", "4 training", "75 stopped", "130 interrupted", "1 anything else"):
        assert code in README
    screen = " ".join(cli.EXIT_CODES.split())
    for code, word in ((UsageError("").exit_code, "wrong usage"), (MissingError("").exit_code, "something is not there"),
                       (TrainingError("").exit_code, "training cannot"), *((c, "") for c in EXIT_CODES.values())):  # fmt: skip
        assert f"{code} {word}" in screen
        assert f" {code} " in README
