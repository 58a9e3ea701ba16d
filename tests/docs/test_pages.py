"""What the pages show can be followed: commands parse, Python runs, and files, links, classes and settings exist."""

import fnmatch
import importlib
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pages import DOCS, PAGES, ROOT, anchors, blocks, code, commands, files, outlines, prose, read

from inbatch import cli
from inbatch.arguments import Parser
from inbatch.class_names import classes, dotted
from inbatch.cli import VERBS
from inbatch.recipes import find_config, is_packaged_folder, methods, packaged
from inbatch.run.config import locate_configs
from inbatch.run.options import FitCLI

LINKED = [*PAGES, "kernels/README.md", "CHANGELOG.md"]
# Made by a script; where it has not run there is nothing to look at.
PICTURES = "docs/pictures"
COMMANDS = sorted({shlex.join(words): page for page in PAGES for words in commands(page)}.items())
OUTLINES = sorted({(page, line) for page in PAGES for line in outlines(page)})
FOLDERS = ("inbatch", "kernels", "losses", "models", "data", "experiments", "docs", "tests")
SOURCES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages give."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for page in PAGES:
        for name, content in files(page).items():
            Path(name).write_text(content, encoding="utf8")
    yield
    importlib.invalidate_caches()


def test_there_is_something_to_check():
    assert len(PAGES) >= 17
    assert len(COMMANDS) > 30
    assert sum(command.startswith("fit ") for command, _ in COMMANDS) > 15


def check_run(words):
    """Parse the options of a run, and see that each ``--config`` is one."""
    assert "--config" in words
    given = [word for option, word in pairwise(words) if option == "--config"]
    for name in given:
        assert is_packaged_folder(name) or find_config(name).is_file()
    if not any(map(is_packaged_folder, given)):
        FitCLI([word for word in locate_configs(words)[0] if word != "--print_config"])


@pytest.mark.parametrize(("command", "page"), COMMANDS)
def test_commands_parse(command, page):
    verb, *words = shlex.split(command)
    assert verb in VERBS
    if verb == "doctor" and "--config" in words:
        if "--memory" in words:
            place = words.index("--memory")
            assert float(words.pop(place + 1)) > 0
            words.pop(place)
        check_run(words)
    elif verb == "doctor":
        assert len(words) <= 1
        assert not any(word.startswith("-") for word in words)
    elif verb == "synthesize":
        assert words[0] == "reference-scores"
        check_run(words[1:])
    elif verb == "fit" and words == ["--model.objective.help"]:
        assert cli.main([verb, *words]) == 0
    elif verb == "fit":
        check_run(words)
    else:
        module = importlib.import_module(VERBS[verb][0])
        parser = Parser(prog=f"inbatch {verb}")
        module.configure(parser)
        parser.parse_args(words)


@pytest.mark.parametrize("command", [command for command, _ in COMMANDS if command.startswith("recipes")])
def test_recipes_are_listed_and_shown(command, capsys):
    assert cli.main(shlex.split(command)) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(("page", "line"), OUTLINES)
def test_outlines_of_commands_have_verbs_and_options_that_exist(page, line, capsys):
    verb = re.search(r"inbatch (\w+|COMMAND)", line)[1]
    if verb == "COMMAND":
        return
    assert verb in VERBS
    options = {option for option in re.findall(r"--[a-z_.\-]+", line) if option not in ("--config", "--help")}
    if options:
        assert cli.main([verb, *(["retrieval"] if verb == "evaluate" else []), "--help"]) == 0
        known = capsys.readouterr().out
        assert all(option in known or option.startswith("--model.objective") for option in options)


def test_one_config_is_enough():
    for command, page in COMMANDS:
        assert command.count("--config") <= 1 or page == "docs/guide/commands.md", (page, command)


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page):
    for block in blocks(page):
        if block.language == "python" and not block.name:
            exec(compile(block.content, page, "exec"), {"__name__": "page"})
        elif block.language == "python":
            importlib.import_module(block.name.removesuffix(".py"))


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    assert links or page == "kernels/README.md"
    for link in links:
        target, _, anchor = link.partition("#")
        if re.match(r"\w+://", link) or (target.startswith(PICTURES) and not (ROOT / PICTURES).is_dir()):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(path.resolve().relative_to(ROOT.resolve()).as_posix()), f"{page}: {link}"


@pytest.mark.parametrize("page", [*PAGES, "kernels/README.md"])
def test_files_that_are_mentioned_exist(page):
    own = {name for each in PAGES for name in files(each)}
    mentioned = [word for span in code(page) for word in re.findall(r"[\w*./<>-]+\.(?:py|yaml|md)\b", span)]
    for word in mentioned:
        if word in own or "<" in word or word.isupper() or re.fullmatch(r"[A-Z]+\.\w+", word):
            continue
        near = [(ROOT / page).parent, ROOT, packaged()]
        there = any(any(base.glob(word)) for base in near) or fnmatch.filter(SOURCES, word)
        assert there, f"{page} mentions {word}"


@pytest.mark.parametrize("page", [*PAGES, "kernels/README.md"])
def test_modules_and_classes_that_are_mentioned_exist(page):
    for name in set(re.findall(r"\binbatch(?:\.\w+)+", read(page))):
        module, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ImportError:
            assert hasattr(importlib.import_module(module), last), f"{page} mentions {name}"
    own = {name.removesuffix(".py") for each in PAGES for name in files(each)}
    for name in set(re.findall(r"class_path[:=] ?([\w.]+)", read(page))):
        assert "." in dotted(name), f"{page} names the class {name}"
        assert name in classes() or name.partition(".")[0] in own or importlib.import_module(name.rpartition(".")[0])


@pytest.mark.parametrize("page", DOCS)
def test_yaml_can_be_read(page):
    for block in blocks(page):
        if block.language == "yaml":
            assert isinstance(yaml.safe_load(block.content), dict)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/extend.md"])
def test_folders_of_recipes_that_are_mentioned_exist(page):
    for span in code(page):
        if match := re.fullmatch(r"([\w-]+)/[\w*-]+\.yaml", span):
            assert match[1] in methods(), f"{page} mentions {span}"


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_has_a_line_of_its_own(page):
    for line in prose(page).splitlines():
        if line.startswith(("|", "<!--", "- ", "#")):
            continue
        plain = re.sub(r"`[^`]*`|\([^)]*\)|\"[^\"]*\"", "x", line)
        assert not re.search(r"[a-z]{3}\. [A-Z]", plain), f"{page}: {line}"
