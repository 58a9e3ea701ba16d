"""Exports equal the live encoder, here and in sentence-transformers; what differs is refused and leaves nothing."""

from __future__ import annotations

import errno
import json
import logging
import os

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from inbatch.errors import InbatchError, UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Backbone, Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export import write as export_module
from inbatch.models.export.sentence_transformers import refuses
from inbatch.models.heads.dense import Dense

ENCODERS = {
    "bert mean": lambda: Encoder(TinyRandom("bert"), max_length=40),
    "bert cls tanh": lambda: Encoder(TinyRandom("bert"), pooling="cls", head=Dense(32)),
    "roberta identity": lambda: Encoder(
        TinyRandom("roberta"), head=Dense(32, 8, "identity", bias=False), normalize=False
    ),
    "llama last, left": lambda: Encoder(TinyRandom("llama"), pooling="last", prompts={"query": "find: "}),
    "llama last, right": lambda: Encoder(TinyRandom("llama", padding_side="right"), pooling="last"),
    "bert padded left": lambda: Encoder(TinyRandom("bert", padding_side="left")),
    "bert lora": lambda: Encoder(TinyRandom("bert", lora=Lora(rank=2))),
    "roberta lora dense": lambda: Encoder(TinyRandom("roberta", lora=Lora(rank=2)), pooling="cls", head=Dense(32, 8)),
    "llama lora last": lambda: Encoder(TinyRandom("llama", lora=Lora(rank=2)), pooling="last"),
    "eager": lambda: Encoder(TinyRandom("bert", attention="eager")),
    "minilm": lambda: Encoder(Pretrained("minilm"), max_length=64),
    "minilm lora": lambda: Encoder(Pretrained("minilm", lora=Lora(rank=4, targets=["query", "value"])), max_length=64),
    "minilm first layers": lambda: Encoder(Pretrained("minilm", layers=2), head=Dense(384, 16)),
}
INEXPRESSIBLE = {
    "first_last": lambda: Encoder(TinyRandom("bert"), pooling="first_last", head=Dense(32, 8)),
    "first_last_h0": lambda: Encoder(TinyRandom("roberta"), pooling="first_last_h0"),
    "avg_top2": lambda: Encoder(TinyRandom("bert", num_layers=3), pooling="avg_top2", prompts={"query": "find: "}),
    "mask": lambda: Encoder(TinyRandom("bert"), pooling="mask", prompts={"query": "[MASK] is "}, max_length=24),
    "bidirectional": lambda: Encoder(TinyRandom("llama", bidirectional=True), prompts={"query": "find: "}),
}


def embed(encoder, texts):
    return encoder.encode(texts, prompt_name="query")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ENCODERS)
def test_reload_and_sentence_transformers_equal_the_live_encoder(name, request, stir, texts, tmp_path):
    peers = pytest.importorskip("sentence_transformers")
    if name.startswith("minilm"):
        request.getfixturevalue("minilm")
    encoder = stir(ENCODERS[name]())
    texts = [*texts, '<EMBED src="a.mp4"> is a tag']
    live = embed(encoder, texts)
    found = encoder.save_pretrained(tmp_path / "model")
    assert found.obstacle is None
    assert found.difference <= 1e-6
    assert (found.adapter_effect is None) == ("lora" not in name)
    torch.testing.assert_close(embed(Encoder.from_pretrained(tmp_path / "model"), texts), live, atol=1e-6, rtol=0)
    peer = peers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert peer.max_seq_length == encoder.max_length
    torch.testing.assert_close(torch.from_numpy(peer.encode(texts, prompt_name="query")), live, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.from_numpy(peer.encode(texts)), encoder.encode(texts), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_what_sentence_transformers_cannot_express_is_told_and_reloads(name, texts, tmp_path):
    peers = pytest.importorskip("sentence_transformers")
    encoder = INEXPRESSIBLE[name]()
    found = encoder.save_pretrained(tmp_path)
    assert found.obstacle
    with pytest.raises(Exception, match="LoadWithInbatch"):  # it runs no module of others unasked, and names it
        peers.SentenceTransformer(str(tmp_path), device="cpu")
    with pytest.raises(UsageError, match="mean pooling and no prompts"):
        peers.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert found.obstacle in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "inbatch.json").read_text())["sentence_transformers"] == found.obstacle
    assert torch.equal(embed(Encoder.from_pretrained(tmp_path), texts), embed(encoder, texts))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.filterwarnings("ignore")
def test_an_instruction_is_part_of_a_prompt_for_sentence_transformers(stir, texts, tmp_path):
    peers = pytest.importorskip("sentence_transformers")
    prompts = {"query": "Instruct: {instruction}\nQuery: ", "document": "passage: "}
    encoder = stir(Encoder(TinyRandom("mistral", eos="append", lora=Lora(rank=2)), pooling="last", prompts=prompts))
    assert encoder.save_pretrained(tmp_path).obstacle is None
    peer = peers.SentenceTransformer(str(tmp_path), device="cpu")
    theirs = torch.from_numpy(peer.encode(texts, prompt="Instruct: find it\nQuery: "))
    ours = encoder.encode(texts, prompt_name="query", instruction="find it")
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)
    passages = torch.from_numpy(peer.encode(texts, prompt_name="document"))
    torch.testing.assert_close(passages, encoder.encode(texts, prompt_name="document"), atol=1e-6, rtol=0)
    card = (tmp_path / "README.md").read_text()
    assert 'prompt_name="query", instruction="what to find"' in card
    assert "prompt='Instruct: what to find\\nQuery: '" in card
    with pytest.raises(UsageError, match="Load it with"):
        peers.SentenceTransformer(str(tmp_path / "adapter"), device="cpu", trust_remote_code=True)


def test_an_encoder_without_its_decoder(texts, tmp_path):
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    encoder = Encoder(Backbone(T5EncoderModel(config), TinyRandom("llama").tokenizer, name="t5"), max_length=40)
    assert encoder.save_pretrained(tmp_path).difference <= 1e-6
    live = encoder.encode(texts)
    torch.testing.assert_close(Encoder.from_pretrained(tmp_path).encode(texts), live, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
def test_other_dtypes_reload(dtype, lora, stir, texts, tmp_path):
    Encoder(TinyRandom()).save_pretrained(tmp_path / "base")
    encoder = stir(Encoder(Pretrained(str(tmp_path / "base"), dtype=dtype, lora=lora)))
    found = encoder.save_pretrained(tmp_path / "model")
    loaded = Encoder.from_pretrained(tmp_path / "model")
    assert loaded.backbone.network.dtype == getattr(torch, dtype)
    if lora is None:
        assert found.difference == 0
    else:
        assert found.difference <= (0.05 if dtype == "bfloat16" else 1e-7)
        adapter = Encoder.from_pretrained(tmp_path / "model" / "adapter")
        assert torch.equal(adapter.encode(texts), encoder.encode(texts))


def test_the_files_of_an_export(stir, tmp_path):
    encoder = stir(Encoder(TinyRandom(lora=Lora(rank=2)), head=Dense(32)))
    facts = {"data": "pairs.csv", "loss": "InfoNCE", "scores": {"mrr": 0.5}}
    encoder.save_pretrained(tmp_path / "model", facts)
    files = {str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*") if p.is_file()}
    assert files >= {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "inbatch.json"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
        *(
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "adapter/2_Dense/model.safetensors",
            "adapter/inbatch.json",
        ),
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    }
    assert os.listdir(tmp_path) == ["model"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["pipeline_tag"] == "sentence-similarity"
    assert "| loss | InfoNCE |" in card
    record = json.loads((tmp_path / "model" / "inbatch.json").read_text())
    assert record["facts"]["data"] == "pairs.csv"
    assert record["facts"]["versions"]["torch"] == torch.__version__
    assert record["lora"]["rank"] == 2
    assert len(json.loads((tmp_path / "model" / "adapter" / "inbatch.json").read_text())["base"]["sha256"]) == 64
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "lora" not in json.dumps(config)
    assert not [n for n in load_file(tmp_path / "model" / "model.safetensors") if "lora" in n or "base_layer" in n]


def test_a_base_is_named_so_that_it_is_found_from_elsewhere(stir, tmp_path, monkeypatch, minilm):
    Encoder(TinyRandom()).save_pretrained(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    stir(Encoder(Pretrained("base", lora=Lora(rank=2)))).save_pretrained("model")
    config = json.loads((tmp_path / "model/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    record = json.loads((tmp_path / "model/adapter/inbatch.json").read_text())
    assert (record["base"]["name"], record["base"]["folder"]) == ("base", str(tmp_path / "base"))
    stir(Encoder(Pretrained(minilm, layers=1, lora=Lora(rank=2)))).save_pretrained("other")
    config = json.loads((tmp_path / "other/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert json.loads((tmp_path / "other/adapter/inbatch.json").read_text())["base"]["name"] == "minilm"
    monkeypatch.chdir("/")
    Encoder.from_pretrained(tmp_path / "model" / "adapter")
    Encoder.from_pretrained(tmp_path / "other" / "adapter")


def test_saving_changes_nothing_live(stir, texts, tmp_path):
    encoder = stir(Encoder(TinyRandom("llama", lora=Lora(rank=2)), pooling="last")).train()
    state = {name: t.clone() for name, t in encoder.state_dict().items()}
    trainable = [p.requires_grad for p in encoder.parameters()]
    torch.manual_seed(0)
    generator = torch.get_rng_state()
    encoder.save_pretrained(tmp_path / "model")
    assert all(torch.equal(t, state[name]) for name, t in encoder.state_dict().items())
    assert [p.requires_grad for p in encoder.parameters()] == trainable
    assert all(module.training for module in encoder.modules())
    assert encoder.tokenizer.padding_side == "left"
    assert torch.equal(torch.get_rng_state(), generator)


def test_an_adapter_without_effect_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "inbatch"):
        found = Encoder(TinyRandom(lora=Lora())).save_pretrained(tmp_path)
    assert found.adapter_effect == 0
    assert "no effect" in caplog.text


@pytest.fixture
def previous(tmp_path):
    """Return a folder with an earlier export, and its files."""
    Encoder(TinyRandom(seed=7)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_export_replaces_the_first_wholly(previous, texts):
    (previous / "stale").write_text("x")
    encoder = Encoder(TinyRandom(seed=8), pooling="first_last")
    encoder.save_pretrained(previous)
    assert torch.equal(Encoder.from_pretrained(previous).encode(texts), encoder.encode(texts))
    assert not (previous / "stale").exists()
    assert refuses(previous)
    assert os.listdir(previous.parent) == ["model"]


def tamper_network(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"] *= 1.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def tamper_head(folder):
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    weights["linear.bias"] += 1e-3
    save_file(weights, folder / "2_Dense" / "model.safetensors")


def tamper_prompts(folder):
    record = json.loads((folder / "inbatch.json").read_text())
    (folder / "inbatch.json").write_text(json.dumps(record | {"prompts": {"query": "", "document": ""}}))


def tamper_pooling(folder):
    record = json.loads((folder / "inbatch.json").read_text())
    (folder / "inbatch.json").write_text(json.dumps(record | {"pooling": "cls"}))


@pytest.mark.parametrize("tamper", [tamper_network, tamper_head, tamper_prompts, tamper_pooling])
def test_a_reload_that_differs_is_an_error_and_leaves_the_previous_export(tamper, previous, monkeypatch):
    before = content(previous)
    write = export_module._write

    def tampered(encoder, folder, facts, obstacle):
        write(encoder, folder, facts, obstacle)
        tamper(folder)

    monkeypatch.setattr(export_module, "_write", tampered)
    with pytest.raises(InbatchError, match="largest relative difference"):
        Encoder(TinyRandom(), head=Dense(32), prompts={"query": "find: "}).save_pretrained(previous)
    assert content(previous) == before
    assert os.listdir(previous.parent) == ["model"]


def test_an_adapter_file_that_differs_is_an_error(stir, tmp_path, monkeypatch):
    def lossy(state, path, metadata=None):
        save_file({name: t.half() if "lora" in name else t for name, t in state.items()}, path, metadata)

    monkeypatch.setattr("safetensors.torch.save_file", lossy)
    with pytest.raises(UsageError, match="load wholly"):
        stir(Encoder(TinyRandom(lora=Lora(rank=2)))).save_pretrained(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_weights_that_are_nan_are_not_kept(tmp_path):
    encoder = Encoder(TinyRandom())
    encoder.backbone.network.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    with pytest.raises(InbatchError, match="nan"):
        encoder.save_pretrained(tmp_path / "model")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "place", ["transformers.PreTrainedModel.save_pretrained", "pathlib.Path.write_text", "os.fsync"]
)
def test_a_full_disk_leaves_the_previous_export(place, previous, monkeypatch, texts):
    before = content(previous)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match="No space left"):
        Encoder(TinyRandom()).save_pretrained(previous)
    monkeypatch.undo()
    assert content(previous) == before
    assert os.listdir(previous.parent) == ["model"]
    Encoder.from_pretrained(previous).encode(texts)


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="something else lies there"):
        Encoder(TinyRandom()).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="something else lies there"):
        Encoder(TinyRandom()).save_pretrained(tmp_path / "thesis.tex")
    assert os.listdir(tmp_path) == ["thesis.tex"]
