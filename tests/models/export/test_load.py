"""Every kind of folder loads as what it is, or is refused with a sentence."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inbatch.errors import MissingError, UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.export.load import folder_kind
from inbatch.models.export.sentence_transformers import Layout, write_layout
from inbatch.models.heads.dense import Dense
from inbatch.models.locate import locate
from inbatch.models.record import RECORD


def same(a: Encoder, b: Encoder, texts, tolerance=0.0) -> bool:
    return bool((a.encode(texts) - b.encode(texts)).abs().max() <= tolerance)


@pytest.fixture
def base(tmp_path):
    """Return a plain folder of a tiny network, to be adapted."""
    backbone = TinyRandom("bert")
    backbone.network.save_pretrained(tmp_path / "base")
    backbone.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapted(base, stir):
    """Return an encoder with a LoRA adapter that has an effect and a head, on the plain folder."""
    torch.manual_seed(0)
    return stir(
        Encoder(Pretrained(str(base), lora=Lora(rank=2)), pooling="cls", head=Dense(32, 8), prompts={"query": "q: "})
    )


def test_minilm_equals_sentence_transformers(minilm, texts):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = [*texts, "", " surrounded by blanks ", "word " * 1000]
    peer = sentence_transformers.SentenceTransformer(str(locate(minilm)), device="cpu")
    encoder = Encoder.from_pretrained(minilm)
    assert (encoder.pooling, encoder.normalize, encoder.max_length, encoder.head) == ("mean", True, 256, None)
    torch.testing.assert_close(encoder.encode(texts), torch.from_numpy(peer.encode(texts)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.filterwarnings("ignore")
def test_what_sentence_transformers_saves_loads(kind, pooling, texts, tmp_path):
    st = pytest.importorskip("sentence_transformers")
    backbone = TinyRandom(kind, max_length=48)
    backbone.network.save_pretrained(tmp_path / "plain")
    backbone.tokenizer.save_pretrained(tmp_path / "plain")
    modules = pytest.importorskip("sentence_transformers.models")
    network = modules.Transformer(str(tmp_path / "plain"), max_seq_length=32)
    steps = [network, modules.Pooling(32, pooling), modules.Dense(32, 8), modules.Normalize()]
    peer = st.SentenceTransformer(modules=steps, device="cpu", prompts={"query": "find: ", "other": "o: "})
    peer.save_pretrained(str(tmp_path / "saved"))
    encoder = Encoder.from_pretrained(tmp_path / "saved")
    assert folder_kind(tmp_path / "saved") == "sentence-transformers"
    assert encoder.pooling == {"lasttoken": "last"}.get(pooling, pooling)
    assert encoder.max_length == 32
    assert encoder.prompts == {"query": "find: ", "document": "", "other": "o: "}
    for name in (None, "query"):
        expected = torch.from_numpy(peer.encode(texts, prompt_name=name))
        torch.testing.assert_close(encoder.encode(texts, prompt_name=name), expected, atol=1e-6, rtol=0)


def test_a_length_beyond_the_positions_is_what_fits(minilm, tmp_path):
    shutil.copytree(locate(minilm), tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 4096}')
    assert Encoder.from_pretrained(tmp_path / "model").max_length == 512


@pytest.mark.parametrize(
    ("similarity", "normalize", "said"),
    [
        ("dot", False, True),
        ("euclidean", False, True),
        ("dot", True, False),
        ("cosine", False, False),
        (None, False, False),
    ],
)
def test_another_similarity_than_the_cosine_is_said_where_it_differs(similarity, normalize, said, tmp_path, caplog):
    backbone = TinyRandom("bert", num_layers=1)
    backbone.network.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    write_layout(tmp_path, Layout("mean", normalize, None, similarity=similarity), hidden_size=32)
    Encoder.from_pretrained(tmp_path)
    assert ("rank by cosine" in caplog.text) == said
    assert f"by {similarity}" in caplog.text or not said


def test_a_plain_folder_takes_the_mean_and_says_so(base, texts, caplog):
    with caplog.at_level(logging.INFO, "inbatch"):
        encoder = Encoder.from_pretrained(base)
    assert "taking the mean" in caplog.text
    assert not encoder.training
    assert encoder.backbone.name == str(base)
    assert same(encoder, Encoder(Pretrained(str(base))), texts)
    assert same(Encoder.from_pretrained(base, pooling="last"), Encoder(Pretrained(str(base)), pooling="last"), texts)


def test_options_reach_the_encoder(minilm):
    encoder = Encoder.from_pretrained(minilm, max_length=16, attention="eager", pooling="mean")
    assert (encoder.max_length, encoder.backbone.attention) == (16, "eager")
    with pytest.raises(UsageError, match="expected pooling mean"):
        Encoder.from_pretrained(minilm, pooling="cls")
    with pytest.raises(UsageError, match="max_length"):
        Encoder.from_pretrained(minilm, max_length=100_000)


def test_an_adapter_alone_is_the_whole_encoder(adapted, texts, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    folder = tmp_path / "model" / "adapter"
    shutil.move(folder, tmp_path / "moved")
    assert folder_kind(tmp_path / "moved") == "adapter"
    loaded = Encoder.from_pretrained(tmp_path / "moved")
    assert loaded.backbone.adapted
    assert loaded.pooling == "cls"
    assert loaded.prompts["query"] == "q: "
    assert same(loaded, adapted, texts)
    again = loaded.save_pretrained(tmp_path / "again")
    assert again.adapter_effect is not None
    assert again.adapter_effect > 1e-3
    assert same(Encoder.from_pretrained(tmp_path / "again" / "adapter"), adapted, texts)


def test_an_adapter_of_the_first_layers(base, stir, texts, tmp_path):
    encoder = stir(Encoder(Pretrained(str(base), layers=1, lora=Lora(rank=2))))
    encoder.save_pretrained(tmp_path / "model")
    assert same(Encoder.from_pretrained(tmp_path / "model" / "adapter"), encoder, texts)


def test_an_adapter_of_peft(adapted, base, texts, tmp_path):
    adapted.backbone.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    assert folder_kind(tmp_path / "adapter") == "adapter"
    loaded = Encoder.from_pretrained(tmp_path / "adapter", pooling="cls")
    expected = Encoder(adapted.backbone, pooling="cls")
    assert same(loaded, expected, texts)


def test_an_adapter_of_sentence_transformers(adapted, base, texts, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    folder = tmp_path / "st"
    shutil.copytree(tmp_path / "model", folder)
    for name in (RECORD, "config.json", "model.safetensors"):
        (folder / name).unlink()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / "adapter" / name, folder / name)
    path = folder / "adapter_config.json"  # another program knows a base in a folder by its path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}))
    assert folder_kind(folder) == "sentence-transformers"
    assert same(Encoder.from_pretrained(folder), adapted, texts)


def test_an_adapter_whose_base_has_changed_is_refused(adapted, base, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 1e-3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="the weights of .* are others"):
        Encoder.from_pretrained(tmp_path / "model" / "adapter")
    shutil.rmtree(base)
    with pytest.raises(MissingError, match="base"):
        Encoder.from_pretrained(tmp_path / "model" / "adapter")


def test_a_base_that_has_moved_can_be_given(adapted, base, texts, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(MissingError, match="base=FOLDER"):
        Encoder.from_pretrained(tmp_path / "model" / "adapter")
    assert same(Encoder.from_pretrained(tmp_path / "model" / "adapter", base=tmp_path / "elsewhere"), adapted, texts)
    with pytest.raises(UsageError, match="a base for an adapter only"):
        Encoder.from_pretrained(tmp_path / "model", base=tmp_path / "elsewhere")


def test_a_merged_adapter_is_not_merged_again(adapted, tmp_path):
    adapted.save_pretrained(tmp_path / "model")
    with pytest.raises(UsageError, match="merged into it already"):
        Encoder.from_pretrained(tmp_path / "model" / "adapter", base=tmp_path / "model")
    adapted.backbone.model.save_pretrained(tmp_path / "plain", save_embedding_layers=False)
    shutil.copy(tmp_path / "model" / "adapter" / "adapter_model.safetensors", tmp_path / "plain")
    path = tmp_path / "plain" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "model")}))
    with pytest.raises(UsageError, match="merged into it already"):
        Encoder.from_pretrained(tmp_path / "plain")


def test_an_adapter_alone_ends_its_texts_as_it_was_trained(texts, tmp_path, stir):
    TinyRandom("mistral").network.save_pretrained(tmp_path / "base")
    TinyRandom("mistral").tokenizer.save_pretrained(tmp_path / "base")
    backbone = Pretrained(str(tmp_path / "base"), lora=Lora(rank=2), eos="append", bidirectional=2)
    encoder = stir(Encoder(backbone, pooling="last"))
    encoder.save_pretrained(tmp_path / "model")
    for folder in ("model", "model/adapter"):
        loaded = Encoder.from_pretrained(tmp_path / folder)
        assert loaded.tokenizer("x")["input_ids"][-1] == encoder.tokenizer.eos_token_id
        assert same(loaded, encoder, texts, 5e-6)


@pytest.mark.parametrize(("layers", "named"), [(True, "without causal mask;"), (1, "in its last 1 layers;")])
def test_a_folder_without_causal_mask_is_not_made_causal(layers, named, tmp_path):
    Encoder(TinyRandom("llama", bidirectional=layers)).save_pretrained(tmp_path / "model")
    for asked in (None, layers):
        assert Pretrained(str(tmp_path / "model"), bidirectional=asked).bidirectional is layers
    with pytest.raises(UsageError, match=f"{named} got false"):
        Pretrained(str(tmp_path / "model"), bidirectional=False)


def test_an_adapter_without_a_base_name_is_refused(adapted, tmp_path):
    adapted.backbone.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="base_model_name_or_path"):
        Encoder.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("content", ['{"format": 99}', "[]"])
def test_a_record_of_another_format_is_refused(base, content):
    (base / RECORD).write_text(content)
    with pytest.raises(UsageError, match="expected format 1"):
        Encoder.from_pretrained(base)


def test_an_empty_folder_is_missing(tmp_path):
    with pytest.raises(MissingError, match=r"config\.json"):
        Encoder.from_pretrained(tmp_path)
