"""A reference: frozen, with its own head, and in eval mode unless dropout is asked for."""

import torch

from inbatch.models.backbones import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads import Dense
from inbatch.models.reference import Reference
from inbatch.tokens import tokenize


def test_it_says_what_the_saved_encoder_says_with_its_head(tmp_path, texts):
    encoder = Encoder(TinyRandom("bert"), pooling="cls", head=Dense(32), normalize=False).eval()
    encoder.save_pretrained(tmp_path / "stage1")
    side = Reference(str(tmp_path / "stage1")).train()
    tokens = tokenize(side.tokenizer, texts)
    torch.testing.assert_close(side(tokens), encoder(tokens).detach())
    assert not side.encoder.training
    assert not any(p.requires_grad for p in side.parameters())
    assert not side(tokens).requires_grad


def test_dropout_is_another_switch_than_frozen(tmp_path, texts):
    Encoder(TinyRandom("bert"), pooling="cls").eval().save_pretrained(tmp_path / "stage1")
    side = Reference(str(tmp_path / "stage1"), dropout=True)
    tokens = tokenize(side.tokenizer, texts)
    assert not torch.equal(side(tokens), side(tokens))
    assert torch.equal(side.eval()(tokens), side(tokens))
