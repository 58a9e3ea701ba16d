"""What a run refuses of its data before the first step: instructions without a place, or too long for the encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.sources import Source
from inbatch.errors import UsageError
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.training.data_checks import check_data

PREFIX, TEMPLATE = "Do: {instruction}\nFor: ", "{text} ({instruction})"


def data_of(folder: Path, instructions: list[str] | None = None, **source) -> EmbeddingDataModule:
    rows = instructions or ["find it"] * 4
    path = folder / "pairs.csv"
    path.write_text("q,d,i\n" + "".join(f"q{n},d{n},{text}\n" for n, text in enumerate(rows)))
    columns: dict = {"anchor": "q", "positive": "d", **({"instruction": "i"} if instructions else {})}
    return EmbeddingDataModule([Source(str(path), columns=columns, **source)], batch_size=2, max_length=40)


@pytest.mark.parametrize("prompt", [PREFIX, TEMPLATE])
def test_instructions_that_fit_pass(tmp_path, prompt):
    encoder = Encoder(TinyRandom("llama", max_length=64), pooling="last", prompts={"query": prompt})
    by_row = data_of(tmp_path, ["find it", "name it now", "a", "a"])
    assert by_row.longest_instructions() == ["name it now", "find it", "a"]
    check_data(encoder, InfoNCE(), by_row, 1, "32-true")
    for_all = data_of(tmp_path, instruction="find it")
    assert for_all.longest_instructions() == ["find it"]
    check_data(encoder, InfoNCE(), for_all, 1, "32-true")


@pytest.mark.parametrize("prompt", [PREFIX, TEMPLATE])
def test_the_longest_instruction_is_looked_at(tmp_path, prompt):
    encoder = Encoder(TinyRandom("gpt2", max_length=64), pooling="last", prompts={"query": prompt})
    with pytest.raises(UsageError, match=r"expected a prompt that leaves room|expected max_length"):
        check_data(encoder, InfoNCE(), data_of(tmp_path, ["a", "b", "c", "word " * 30]), 1, "32-true")


def test_an_instruction_needs_a_place_and_a_place_an_instruction(tmp_path):
    plain, asked = (Encoder(TinyRandom("llama"), prompts={"query": p}) for p in ("", PREFIX))
    with pytest.raises(
        UsageError, match=r"leave the instructions out: set columns of .*pairs\.csv to {anchor: q, positive: d}"
    ):
        check_data(plain, InfoNCE(), data_of(tmp_path, ["a", "b"]), 1, "32-true")
    with pytest.raises(UsageError, match=r"leave the instructions out: remove instruction from .*pairs\.csv"):
        check_data(plain, InfoNCE(), data_of(tmp_path, instruction="find it"), 1, "32-true")
    with pytest.raises(UsageError, match="got none. Set instruction or columns.instruction on data.sources"):
        check_data(asked, InfoNCE(), data_of(tmp_path), 1, "32-true")


def test_a_column_of_instructions_that_nobody_asked_for_is_refused_with_the_setting_that_drops_it(tmp_path):
    path = tmp_path / "triples.jsonl"
    path.write_text('{"query": "a", "positive": "b", "instruction": "c"}\n' * 2)
    plain = Encoder(TinyRandom("llama"))
    named = EmbeddingDataModule(str(path), batch_size=2, max_length=40)
    with pytest.raises(UsageError, match=r"set columns of .* to {anchor: query, positive: positive}") as error:
        check_data(plain, InfoNCE(), named, 1, "32-true")
    columns = yaml.safe_load(str(error.value).rpartition(" to ")[2].rstrip("."))
    mended = EmbeddingDataModule(Source(str(path), columns=columns), batch_size=2, max_length=40)
    check_data(plain, InfoNCE(), mended, 1, "32-true")
    with pytest.raises(UsageError, match=r"Drop the setting, or set columns to {anchor: query, positive: positive}\."):
        _ = EmbeddingDataModule(Source(str(path), instruction="find it"), batch_size=2).tables


def test_sources_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(UsageError, match="an instruction or a column of instructions"):
        _ = data_of(tmp_path, ["a", "b"], instruction="find it").tables
    with pytest.raises(UsageError, match="row 2: expected an instruction in the column i; it is empty"):
        _ = data_of(tmp_path, ["a", " "]).tables
    one, two = data_of(tmp_path, instruction="find it"), data_of(tmp_path)
    both = EmbeddingDataModule([*one.sources, *two.sources], batch_size=2)
    with pytest.raises(UsageError, match="have instructions, those of .* have none.*remove instruction from"):
        _ = both.tables
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("q,d,i\na,b,1\n")
    source = Source(str(numbers), columns={"anchor": "q", "positive": "d", "instruction": "i"})
    with pytest.raises(UsageError, match="texts in the instruction column i"):
        _ = EmbeddingDataModule([source], batch_size=1).tables
