"""Folders of Hugging Face models: what loads, what is cut, and what is refused with a sentence."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from inbatch.errors import MissingError, UsageError
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.huggingface import load_config, load_tokenizer, random_network
from inbatch.text.tokens import tokenize


@pytest.fixture
def folder(tmp_path):
    """Return a plain folder of a two-layer network and its tokenizer."""
    backbone = TinyRandom()
    backbone.network.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def states(backbone, texts):
    return backbone.eval()(tokenize(backbone.tokenizer, texts, 32)).last


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_plain_folder_gives_the_same_states(kind, texts, tmp_path):
    live = TinyRandom(kind)
    live.network.save_pretrained(tmp_path)
    live.tokenizer.save_pretrained(tmp_path)
    loaded = Pretrained(str(tmp_path))
    assert type(loaded.network) is type(live.network)
    assert loaded.tokenizer.padding_side == live.tokenizer.padding_side
    assert torch.equal(states(loaded, texts), states(live, texts))
    assert not [name for name, _ in loaded.named_parameters() if "pooler" in name]


def test_first_layers(folder, texts):
    one = Pretrained(str(folder), layers=1)
    assert one.config.num_hidden_layers == 1
    tokens = tokenize(one.tokenizer, texts, 32)
    whole = Pretrained(str(folder)).eval()(tokens, layer=1)
    assert torch.equal(one.eval()(tokens).last, whole.other)


def test_layer_kinds_are_cut_with_the_layers(tmp_path):
    from transformers import Qwen3Config

    config = Qwen3Config(num_hidden_layers=3, vocab_size=9, hidden_size=8)
    config.save_pretrained(tmp_path)
    cut = load_config(tmp_path, "x", layers=2, dropout=None)
    assert (cut.num_hidden_layers, len(cut.layer_types)) == (2, 2)


@pytest.mark.parametrize("layers", [0, 3])
def test_layers_out_of_range(folder, layers):
    with pytest.raises(UsageError, match=r"layers in \[1, 2\]"):
        Pretrained(str(folder), layers=layers)


def test_dropout_is_set_everywhere(folder):
    rates = {m.p for m in Pretrained(str(folder), dropout=0.25).modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.25}
    assert TinyRandom("llama", dropout=0.25).config.attention_dropout == 0.25


def test_an_encoder_decoder_gives_its_encoder(folder, texts):
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0)
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
    T5EncoderModel(config).save_pretrained(folder)
    backbone = Pretrained(str(folder))
    assert type(backbone.network) is T5EncoderModel
    assert backbone.hidden_size == 16
    assert states(backbone, texts).isfinite().all()


def test_random_weights_depend_on_the_seed_alone_and_move_no_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = TinyRandom(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = random_network(first.config, 1, torch.float32, None)
    third = random_network(first.config, 2, torch.float32, None)
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(first.network.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(second.state_dict()[name], third.state_dict()[name])


def test_a_folder_without_configuration(tmp_path):
    with pytest.raises(MissingError, match=r"config\.json.*hf download"):
        Pretrained(str(tmp_path))


@pytest.mark.parametrize("content", ["{", '{"model_type": "nonesuch"}'])
def test_a_broken_configuration(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(UsageError, match=r"model configuration in"):
        Pretrained(str(folder))


def test_a_network_that_is_none_of_text(folder):
    from transformers import ViTMAEConfig, WhisperConfig

    from inbatch.models.huggingface import network_class

    with pytest.raises(UsageError, match="WhisperConfig"):
        network_class(WhisperConfig())
    assert network_class(ViTMAEConfig())  # images are the tokenizer's matter


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingError, match=r"model\.safetensors.*hf download"):
        Pretrained(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UsageError, match="pickled"):
        Pretrained(str(folder))


def test_weights_that_are_damaged(folder):
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="can load"):
        Pretrained(str(folder))


def test_weights_that_would_stay_random(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"stay random.*layer\.1\.attention\.self\.query\.weight"):
        Pretrained(str(folder))


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 8}))
    with pytest.raises(UsageError, match="can load"):
        Pretrained(str(folder))


def test_no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="expected a tokenizer in"):
        Pretrained(str(folder))


def test_a_tokenizer_without_padding_token_pads_with_its_last(tmp_path):
    tokenizer = TinyRandom("llama").tokenizer
    raw = tokenizer.backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "</s>"
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="padding token"):
        load_tokenizer(tmp_path)
