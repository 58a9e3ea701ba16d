"""The auxiliary masked language model: what is masked, and the chunks that change nothing."""

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.masked_tokens import MaskedTokens, mask_tokens
from inbatch.models.backbones import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.masked_lm import TinyHead
from inbatch.models.prefix import Prefix
from inbatch.tokens import tokenize
from inbatch.views import Views

TEXTS = ["a short one", "a text that is rather longer than the others", "x", "six words are in this text"]


def test_the_shares_of_the_corruption():
    tokenizer = TinyRandom("bert").tokenizer
    tokens = tokenize(tokenizer, ["some text of many letters " * 4] * 400)
    torch.manual_seed(0)
    masked, chosen = mask_tokens(tokens, tokenizer, 0.15)
    allowed = tokens.attention_mask.sum() - 2 * 400
    assert chosen.sum() / allowed == pytest.approx(0.15, abs=0.005)
    became_mask = (masked.input_ids == tokenizer.mask_token_id) & chosen
    kept = (masked.input_ids == tokens.input_ids) & chosen
    assert became_mask.sum() / chosen.sum() == pytest.approx(0.8, abs=0.02)
    assert kept.sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(masked.input_ids[~chosen], tokens.input_ids[~chosen])
    first_and_last = torch.zeros_like(chosen)
    first_and_last[:, [0, -1]] = True
    assert not (chosen & first_and_last).any()


def test_padding_is_never_chosen():
    tokenizer = TinyRandom("bert").tokenizer
    tokens = tokenize(tokenizer, TEXTS)
    _, chosen = mask_tokens(tokens, tokenizer, 0.999)
    assert not (chosen & (tokens.attention_mask == 0)).any()


@pytest.mark.parametrize("prefix", [None, Prefix(3)], ids=["full", "prefix"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_chunks_change_neither_value_nor_gradient(kind, prefix):
    encoder = Encoder(TinyRandom(kind, dropout=0.0, prefix=prefix), pooling="cls").double().eval()
    objective = MaskedTokens(TinyHead(kind)).double()
    objective.attach(encoder)
    tokens = tokenize(encoder.tokenizer, TEXTS)
    parameters = [p for m in (encoder, objective) for p in m.parameters() if p.requires_grad]
    results = []
    for budget in (None, 30):
        objective.chunk_tokens = budget
        torch.manual_seed(5)
        loss = objective(Views(None, None), Views(tokens, tokens), encoder).loss
        results.append([loss, *torch.autograd.grad(loss, parameters, allow_unused=True)])
    for one, many in zip(*results):
        if one is not None:
            torch.testing.assert_close(one, many, atol=1e-12, rtol=1e-9)
    assert results[0][0] > 1


def test_the_mean_is_over_the_masked_tokens():
    encoder = Encoder(TinyRandom("bert", dropout=0.0), pooling="cls").eval()
    objective = MaskedTokens(TinyHead("bert"), masking_rate=0.5)
    tokens = tokenize(encoder.tokenizer, TEXTS)
    torch.manual_seed(3)
    found = objective(Views(None, None), Views(tokens, tokens), encoder).loss
    torch.manual_seed(3)
    both = type(tokens).cat([tokens, tokens])
    masked, chosen = mask_tokens(both, encoder.tokenizer, 0.5)
    logits = objective.head(encoder.backbone(masked).last)
    expected = torch.nn.functional.cross_entropy(logits[chosen], both.input_ids[chosen])
    torch.testing.assert_close(found, expected)


def test_nothing_masked_is_a_loss_of_zero():
    encoder = Encoder(TinyRandom("bert"), pooling="cls")
    tokens = tokenize(encoder.tokenizer, ["x"])
    loss = MaskedTokens(TinyHead("bert"), masking_rate=1e-9)(Views(None, None), Views(tokens, tokens), encoder).loss
    loss.backward()
    assert loss == 0


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(UsageError, match=r"masking_rate in \(0, 1\)"):
        MaskedTokens(TinyHead(), masking_rate=0.0)
    with pytest.raises(UsageError, match="a tokenizer with a mask token"):
        MaskedTokens(TinyHead()).attach(Encoder(TinyRandom("llama"), pooling="last"))
    with pytest.raises(UsageError, match="expected the masked-token head to read the encoder's tokens"):
        MaskedTokens(TinyHead("roberta")).attach(Encoder(TinyRandom("bert"), pooling="cls"))
