"""Generators and heads: frozen is not eval, and what the switches draw."""

import pytest
import torch

from inbatch.errors import MissingError, UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.heads.dense import MLMTransform
from inbatch.models.networks.masked_lm import (
    EncoderGenerator,
    MaskedLMHead,
    PretrainedGenerator,
    PretrainedHead,
    TinyGenerator,
    TinyHead,
)
from inbatch.text.tokens import tokenize


@pytest.fixture
def saved(tmp_path):
    """Return the folder of a tiny masked language model."""
    side = TinyGenerator("bert")
    side.network.save_pretrained(tmp_path)
    side.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_pretrained_generator_predicts_what_its_network_does(saved, texts):
    side = PretrainedGenerator(saved, dropout=False)
    tokens = tokenize(side.tokenizer, texts)
    logits = side.network(tokens.input_ids, tokens.attention_mask).logits
    assert torch.equal(side(tokens), logits.argmax(-1))
    assert not any(p.requires_grad for p in side.parameters())


def test_an_encoder_puts_the_token_nearest_to_its_last_state(tmp_path, texts):
    backbone = TinyRandom("bert").eval()
    backbone.network.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    side = EncoderGenerator(str(tmp_path), dropout=False)
    tokens = tokenize(side.tokenizer, texts)
    words = backbone.network.get_input_embeddings().weight
    cosine = torch.cosine_similarity(backbone(tokens).last[:, :, None], words[None, None], dim=-1)
    special = side.tokenizer.all_special_ids
    cosine[..., special] = -2
    found = side(tokens)
    assert torch.equal(found, cosine.argmax(-1))
    assert not torch.isin(found, torch.tensor(special)).any()
    assert not any(p.requires_grad for p in side.parameters())


def test_dropout_stays_on_while_training_as_released(texts):
    with_dropout, without = TinyGenerator(), TinyGenerator(dropout=False)
    assert with_dropout.train().network.training
    assert not without.train().network.training
    assert not with_dropout.eval().network.training


def test_sampling_follows_the_distribution():
    side = TinyGenerator(dropout=False, sample=True)
    tokens = tokenize(side.tokenizer, ["abc"] * 400)
    torch.manual_seed(0)
    drawn = side(tokens)
    shares = side.network(tokens.input_ids[:1], tokens.attention_mask[:1]).logits.softmax(-1)[0, 1]
    likely = int(shares.argmax())
    assert (drawn[:, 1] == likely).float().mean() == pytest.approx(float(shares[likely]), abs=0.03)
    assert len(drawn[:, 1].unique()) > 20


def test_a_head_is_that_of_its_model_and_untied(saved, texts):
    head, side = PretrainedHead(saved), PretrainedGenerator(saved, dropout=False)
    tokens = tokenize(side.tokenizer, texts)
    states = side.network.bert(tokens.input_ids, tokens.attention_mask).last_hidden_state
    logits = side.network(tokens.input_ids, tokens.attention_mask).logits
    torch.testing.assert_close(head(states), logits)
    assert all(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_tiny_heads_and_generators_share_the_backbones_tokens(kind):
    words = TinyRandom(kind).tokenizer.get_vocab()
    assert TinyHead(kind).tokenizer.get_vocab() == TinyGenerator(kind).tokenizer.get_vocab() == words


def test_the_transform_as_a_head_has_the_models_weights(saved, texts):
    transform = MLMTransform(32, name=saved)
    head = PretrainedHead(saved).head.predictions.transform
    x = torch.randn(4, 32)
    torch.testing.assert_close(transform(x), head(x))
    with pytest.raises(UsageError, match="BERT's transform of size 16"):
        MLMTransform(16, name=saved)


def test_what_is_no_masked_language_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="a masked language model whose head is one module"):
        MaskedLMHead(torch.nn.Linear(2, 2), None)
    backbone = TinyRandom("llama")
    backbone.network.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="expected a masked language model; transformers has none for LlamaConfig"):
        PretrainedGenerator(str(tmp_path))
    with pytest.raises(MissingError):
        PretrainedGenerator(str(tmp_path / "nothing"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_head_takes_states_of_another_dtype(dtype):
    assert TinyHead()(torch.randn(2, 32, dtype=dtype)).dtype == torch.float32
