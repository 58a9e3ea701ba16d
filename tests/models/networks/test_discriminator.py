"""The discriminator: the vector stands where the first token's embedding stood, and nothing is added to it."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.networks.discriminator import Discriminator
from inbatch.text.tokens import tokenize


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_equals_the_layers_run_on_overwritten_embeddings(kind, texts):
    side = Discriminator(TinyRandom(kind)).eval()
    tokens, vectors = tokenize(side.tokenizer, texts), torch.randn(len(texts), 32)
    network = side.backbone.network
    embedded = network.embeddings(input_ids=tokens.input_ids).clone()
    embedded[:, 0] = vectors
    mask = torch.zeros(len(texts), 1, 1, embedded.shape[1]).masked_fill(
        tokens.attention_mask[:, None, None] == 0, torch.finfo(torch.float32).min
    )
    hidden = embedded
    for layer in network.encoder.layer:
        out = layer(hidden, attention_mask=mask)
        hidden = out if isinstance(out, torch.Tensor) else out[0]
    used = tokens.attention_mask.bool()
    torch.testing.assert_close(side(tokens, vectors)[used], side.head(hidden)[used], atol=1e-5, rtol=1e-5)


def test_the_vector_has_a_gradient_and_the_first_token_none(texts):
    side = Discriminator(TinyRandom("bert")).eval()
    tokens = tokenize(side.tokenizer, texts)
    vectors = torch.randn(len(texts), 32, requires_grad=True)
    side(tokens, vectors).sum().backward()
    assert vectors.grad.abs().sum() > 0
    words = side.backbone.network.embeddings.word_embeddings.weight.grad
    assert words[side.tokenizer.cls_token_id].abs().sum() == 0


def test_the_hook_goes_with_the_call(texts):
    side = Discriminator(TinyRandom("bert")).eval()
    tokens = tokenize(side.tokenizer, texts)
    plain = side.backbone(tokens).last
    side(tokens, torch.randn(len(texts), 32))
    assert torch.equal(side.backbone(tokens).last, plain)


def test_what_does_not_fit_is_refused(texts):
    with pytest.raises(UsageError, match="a discriminator with a module `embeddings`"):
        Discriminator(TinyRandom("llama"))
    side = Discriminator(TinyRandom("bert"))
    with pytest.raises(UsageError, match="embeddings of size 32, the discriminator's; got 8"):
        side(tokenize(side.tokenizer, texts), torch.randn(len(texts), 8))
