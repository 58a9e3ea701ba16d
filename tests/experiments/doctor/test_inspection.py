"""Base, adapter or merged; and every form of a model is loaded and compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inbatch.errors import InbatchError, MissingError
from inbatch.experiments.doctor.findings import Finding, exit_code
from inbatch.experiments.doctor.inspection import inspect_model
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder


def inspect(path: str | Path) -> dict[str, Finding]:
    return {finding.topic: finding for finding in inspect_model(str(path))}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    Encoder(TinyRandom(), prompts={"query": "q: "}).save_pretrained(folder)
    return folder


@pytest.fixture
def adapted(base: Path, tmp_path: Path) -> Path:
    return save_adapted(base, tmp_path / "adapted", lambda b: torch.nn.init.normal_(b, std=0.3))


def save_adapted(base: Path, folder: Path, change: Callable[[torch.Tensor], object]) -> Path:
    encoder = Encoder(Pretrained(str(base), lora=Lora(rank=2)))
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            change(parameter)
    encoder.save_pretrained(folder)
    return folder


def alter(weights: Path, factor: float = 1.5) -> None:
    save_file({name: t * factor for name, t in load_file(weights).items()}, weights, metadata={"format": "pt"})


def test_full_model(base: Path):
    found = inspect(base)
    assert exit_code(list(found.values())) == 0
    assert found["kind"].text.startswith("full model, trained from TinyRandom(")
    assert found["prompts"].text == "query: 'q: '"
    assert "BertModel" in found["network"].text
    assert found["reload"].state == found["exchange"].state == "ok"


def test_plain_network_is_a_base(base: Path, tmp_path: Path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path)
    found = inspect(tmp_path)
    assert found["kind"].text.startswith("base: a plain network without pooling")
    assert found["exchange"].state == "note"


def test_packaged_minilm_is_a_base(minilm: str):
    found = inspect(minilm)
    assert found["kind"].text.startswith("base: a sentence-transformers folder")
    assert found["exchange"].text.startswith("sentence-transformers embeds equally")


def test_merged_and_its_adapter(adapted: Path, base: Path):
    found = inspect(adapted)
    assert exit_code(list(found.values())) == 0
    assert found["kind"].text == "merged: an adapter added into base"
    assert found["adapter"].text.startswith("the adapter on its base embeds equally")
    found = inspect(adapted / "adapter")
    assert found["kind"].text == "adapter alone, trained on base"
    assert "the adapter changes embeddings by" in found["reload"].text


def test_adapter_without_effect_is_wrong(base: Path, tmp_path: Path):
    folder = save_adapted(base, tmp_path / "untrained", lambda b: None)
    found = inspect(folder / "adapter")
    assert found["reload"].state == "wrong"
    assert "equals its base" in found["reload"].text


def test_adapter_that_no_longer_fits_the_merged_model_is_wrong(adapted: Path):
    alter(adapted / "adapter" / "adapter_model.safetensors")
    found = inspect(adapted)
    assert found["adapter"].state == "wrong"
    assert "embeds otherwise" in found["adapter"].text


def test_adapter_whose_base_is_gone_or_has_changed(base: Path, tmp_path: Path):
    moved = tmp_path / "own-base"
    shutil.copytree(base, moved)
    folder = save_adapted(moved, tmp_path / "adapted", lambda b: torch.nn.init.normal_(b, std=0.05))
    alter(moved / "model.safetensors")
    assert inspect(folder)["adapter"].state == "wrong"
    shutil.rmtree(moved)
    found = inspect(folder)
    assert found["adapter"].state == "note"
    assert "its base is not here" in found["adapter"].text


def test_run_folder_stands_for_its_export(base: Path, tmp_path: Path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(MissingError, match="has not exported one yet"):
        inspect(tmp_path)
    shutil.copytree(base, tmp_path / "export")
    found = inspect(tmp_path)
    assert found["run"].state == found["reload"].state == "ok"


def test_masks_are_put_where_pooling_reads_them(tmp_path: Path):
    Encoder(TinyRandom(), pooling="mask").save_pretrained(tmp_path / "mask")
    found = inspect(tmp_path / "mask")
    assert exit_code(list(found.values())) == 0
    assert found["exchange"].state == "note"


def test_other_vectors_in_sentence_transformers_are_wrong(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encode = sentence_transformers.SentenceTransformer.encode
    monkeypatch.setattr(sentence_transformers.SentenceTransformer, "encode", lambda *a, **k: -encode(*a, **k))
    assert inspect(base)["exchange"].state == "wrong"
    monkeypatch.setattr(sentence_transformers.SentenceTransformer, "encode", lambda *a, **k: encode(*a, **k)[:, :5])
    assert "5 dimensions, expected 32" in inspect(base)["exchange"].text


def test_without_sentence_transformers_it_is_a_note(base: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert inspect(base)["exchange"].state == "note"


def test_an_export_that_fails_or_has_no_room_is_told(base: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(self: Encoder, folder: Path):
        raise InbatchError("the reload differs")

    monkeypatch.setattr(Encoder, "save_pretrained", fails)
    assert inspect(base)["reload"] == Finding("reload", "wrong", "the reload differs")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("usage", (), {"free": 0}))
    assert inspect(base)["reload"].state == "note"


def test_a_model_that_is_not_there():
    with pytest.raises(MissingError, match="hf download"):
        inspect("./nothing")
