"""A folder's own length is kept, whoever says it: sentence-transformers, the tokenizer, or our own export."""

from __future__ import annotations

import json
import logging

import pytest
import tokenizers
import torch

from inbatch.errors import UsageError
from inbatch.models.adapters.lora import Lora
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.backbones.truncation import own_length
from inbatch.models.encoder import Encoder

LONG = "words and more words, of which most are cut off"


@pytest.fixture
def plain(tmp_path):
    """Return a folder of a network of 64 positions, whose tokenizer has cut nothing yet."""
    backbone = TinyRandom("bert", max_length=64)
    backbone.network.save_pretrained(tmp_path / "plain")
    backbone.tokenizer.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def set_json(path, **settings):
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | settings))


def truncate(folder, length):
    set_json(
        folder / "tokenizer.json",
        truncation={"max_length": length, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    )


def kept(encoder):
    """Return how many tokens of a long text the encoder reads."""
    seen = []
    hook = encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].input_ids.shape[1]))
    encoder.encode([LONG])
    hook.remove()
    return seen[0]


def test_without_a_word_of_its_own_a_folder_takes_what_its_tokenizer_allows(plain):
    assert kept(Encoder.from_pretrained(plain)) == len(LONG) + 2  # a token a byte
    set_json(plain / "tokenizer_config.json", model_max_length=11)
    assert kept(Encoder.from_pretrained(plain)) == 11


def test_the_truncation_of_tokenizer_json_is_kept_and_said(plain, caplog):
    truncate(plain, 13)
    with caplog.at_level(logging.INFO, "inbatch"):
        assert kept(Encoder.from_pretrained(plain)) == 13
    assert "texts are cut at 13 tokens, as tokenizer.json" in caplog.text
    assert kept(Encoder(Pretrained(str(plain)))) == 13
    assert kept(Encoder(Pretrained(str(plain), lora=Lora(rank=2)))) == 13
    set_json(plain / "tokenizer_config.json", model_max_length=9)
    assert kept(Encoder.from_pretrained(plain)) == 9


@pytest.mark.parametrize(
    "settings",
    [
        {"max_seq_length": 12},
        {"max_seq_length": 40, "tokenizer_args": {"model_max_length": 12}},
        {"processor_kwargs": {"model_max_length": 12}},
    ],
)
@pytest.mark.parametrize("where", ["", "0_Transformer"])
@pytest.mark.filterwarnings("ignore")
def test_what_sentence_transformers_keeps_is_kept(plain, tmp_path, settings, where):
    st = pytest.importorskip("sentence_transformers")
    from inbatch.models.export.sentence_transformers import Layout, write_layout

    truncate(plain, 7)  # which sentence-transformers does not ask
    folder = tmp_path / "st"
    write_layout_at = folder / where
    folder.mkdir()
    if where:
        plain.rename(write_layout_at)
    else:
        folder.rmdir()
        plain.rename(folder)
    write_layout(folder, Layout("mean", False, 12), hidden_size=32)
    (folder / "sentence_bert_config.json").unlink()
    (write_layout_at / "sentence_bert_config.json").write_text(json.dumps(settings))
    if where:
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["path"] = where
        (folder / "modules.json").write_text(json.dumps(modules))
    encoder = Encoder.from_pretrained(folder)
    assert (encoder.max_length, kept(encoder)) == (12, 12)
    peer = st.SentenceTransformer(str(folder), device="cpu")
    torch.testing.assert_close(encoder.encode([LONG]), torch.from_numpy(peer.encode([LONG])), atol=1e-6, rtol=0)
    # The network alone, as a run trains it, and a length that is asked for.
    assert kept(Encoder(Pretrained(str(write_layout_at)))) == 12
    assert Encoder.from_pretrained(folder, max_length=30).max_length == 30
    assert kept(Encoder(Pretrained(str(write_layout_at)), max_length=30)) == 30


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_sentence_transformers_without_a_length_takes_its_tokenizers(plain):
    st = pytest.importorskip("sentence_transformers")
    from inbatch.models.export.sentence_transformers import Layout, write_layout

    truncate(plain, 7)
    set_json(plain / "tokenizer_config.json", model_max_length=15)
    write_layout(plain, Layout("mean", True, None), hidden_size=32)
    encoder = Encoder.from_pretrained(plain)
    peer = st.SentenceTransformer(str(plain), device="cpu")
    assert encoder.max_length == peer.max_seq_length == 15
    torch.testing.assert_close(encoder.encode([LONG]), torch.from_numpy(peer.encode([LONG])), atol=1e-6, rtol=0)


def test_lengths_by_side_are_refused(plain):
    from inbatch.models.export.sentence_transformers import Layout, write_layout

    write_layout(plain, Layout("mean", True, None), hidden_size=32)
    set_json(plain / "sentence_bert_config.json", query_length=8)
    with pytest.raises(UsageError, match="query_length"):
        Encoder.from_pretrained(plain)


@pytest.mark.parametrize("prompts", [{}, {"query": "It is {text}."}])
def test_an_export_keeps_its_length_for_whoever_reads_it(tmp_path, prompts):
    encoder = Encoder(TinyRandom("bert", max_length=64), max_length=20, prompts=prompts)
    encoder.encode([LONG], max_length=5)  # as the last batch of a training would be cut
    encoder.save_pretrained(tmp_path / "export")
    assert Encoder.from_pretrained(tmp_path / "export").max_length == 20
    backbone = Pretrained(str(tmp_path / "export"))
    assert (backbone.own_length, Encoder(backbone).max_length) == (20, 20)
    file = tokenizers.Tokenizer.from_file(str(tmp_path / "export" / "tokenizer.json"))
    assert len(file.encode(LONG).ids) == (len(LONG) + 2 if prompts else 20)


def test_an_explicit_length_wins_and_is_bounded_by_the_positions(plain):
    truncate(plain, 13)
    encoder = Encoder.from_pretrained(plain, max_length=40)
    assert kept(encoder) == 40
    with pytest.raises(UsageError, match="max_length"):
        Encoder.from_pretrained(plain, max_length=65)


def test_a_slow_tokenizer_says_nothing(tmp_path):
    assert own_length(tmp_path, object()) is None
