"""What the guide about data shows is what is read: its files, first screens, refusals and commands."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typed_lines import sources_in

from inbatch import cli
from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.formats.files import SUFFIXES
from inbatch.data.formats.opening import COMPRESSIONS
from inbatch.data.sources.sources import Source, load
from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

GUIDE = (Path(__file__).parent.parent / "docs" / "guide" / "data.md").read_text(encoding="utf8")
BLOCKS = re.findall(r"^```(?:text )?([^\n]+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
FILES = {name: content for name, content in BLOCKS if re.fullmatch(r"\w+\.\w+", name)}
SCREENS = {name.removeprefix("screen "): content for name, content in BLOCKS if name.startswith("screen ")}
REFUSED = {name.removeprefix("refused "): content for name, content in BLOCKS if name.startswith("refused ")}
COMMANDS = [line for name, content in BLOCKS if name == "sh" for line in content.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))
    for name, content in FILES.items():
        Path(name).write_text(content, encoding="utf8")


def test_the_guide_shows_enough():
    assert (len(FILES), len(SCREENS), len(REFUSED), len(COMMANDS)) == (5, 3, 1, 6)
    for ending in (*SUFFIXES, *COMPRESSIONS):
        assert f"{ending}`" in GUIDE


@pytest.mark.parametrize("name", SCREENS)
def test_its_first_screens(name):
    assert EmbeddingDataModule(name, batch_size=2).describe() == SCREENS[name].splitlines()


@pytest.mark.parametrize("name", REFUSED)
def test_its_refusals_and_their_lines(name):
    with pytest.raises(UsageError) as error:
        load(Source(name))
    assert str(error.value) == REFUSED[name].strip()
    (line,) = sources_in(REFUSED[name])
    assert load(line).rows[:] == {"query": ["who wrote Emma?", "what is 2 + 2?", "when did people land on the moon?"],
                                  "answer": ["Jane Austen", "four", "in 1969"]}  # fmt: skip


def test_one_object_with_all_rows():
    with pytest.raises(UsageError, match="Write them out: ") as error:
        load(Source("whole.json"))
    subprocess.run(str(error.value).partition("Write them out: ")[2], shell=True, check=True)
    assert load(Source("whole-rows.jsonl")).rows["answer"][:] == ["Jane Austen", "four"]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("inbatch fit ")])
def test_its_sources_of_a_run_can_be_read(command):
    words = shlex.split(command)
    (option,) = [word for word in words if word.startswith("--data.sources=")]
    (source,) = sources_in(shlex.quote(option) if "'" not in shlex.quote(option) else command) or [
        Source(option.partition("=")[2])
    ]
    assert len(load(source)) == 3


def test_its_commands_run():
    Encoder(TinyRandom("bert", num_layers=1)).eval().save_pretrained("model")
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if words[0] != "fit":
            assert cli.main([word.replace("minilm", "model") for word in words]) == 0, command
    assert Path("queries.npy").exists()
