"""A reference: frozen, with its own head, and in eval mode unless dropout is asked for."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.models.networks.reference import Reference
from inbatch.text.tokens import tokenize


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


@pytest.mark.parametrize("at_test", [False, True])
def test_a_template_bias_that_it_could_not_subtract_is_refused(tmp_path, at_test, texts):
    prompts = {"query": "{text} {mask}", "document": "{text}: {mask}"}
    correction = TemplateBias(template_bias_at_test=at_test)
    encoder = Encoder(TinyRandom("bert"), "mask", prompts=prompts, correction=correction, default_prompt="query").eval()
    encoder.save_pretrained(tmp_path / "stage1")
    if at_test:
        with pytest.raises(UsageError, match="subtracts the bias of a template"):
            Reference(str(tmp_path / "stage1"))
    else:
        side = Reference(str(tmp_path / "stage1"))
        torch.testing.assert_close(side(tokenize(side.tokenizer, texts, None, prompts["query"])), encoder.encode(texts))
