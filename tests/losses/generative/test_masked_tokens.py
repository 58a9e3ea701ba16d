"""The auxiliary masked language model: what is masked, and the chunks that change nothing."""

import itertools

import pytest
import torch

from inbatch.errors import UsageError
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.generative.masked_tokens import MaskedTokens, mask_tokens
from inbatch.models.adapters.prefix import Prefix
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.models.networks.masked_lm import TinyHead
from inbatch.text.tokens import tokenize
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


def prompted(same: bool, budget: int | None, rate: float = 0.15):
    """A step of PromCSE with masked tokens, in which only the prefix has dropout; the module and its batch."""
    encoder = Encoder(TinyRandom("roberta", dropout=0.0, prefix=Prefix(3, dropout=0.5)), pooling="cls")
    torch.nn.init.normal_(encoder.backbone.prefix_table.table, generator=torch.Generator().manual_seed(1))
    mlm = MaskedTokens(TinyHead("roberta"), masking_rate=rate, same_prefix_dropout=same)
    objective = WeightedSum({"contrast": InfoNCE(), "mlm": mlm}, {"mlm": 0.5})
    module = EmbeddingModule(encoder, objective, lambda groups: torch.optim.SGD(groups), chunk_tokens=budget)
    module.log = lambda *_, **__: None
    tokens = tokenize(encoder.tokenizer, TEXTS)
    return module.double(), Views(tokens, tokens)


@pytest.mark.parametrize("budget", [None, 60, 1])
@pytest.mark.parametrize("same", [True, False])
def test_both_passes_see_the_prefix_with_the_same_dropout_where_it_is_asked_for(same, budget, monkeypatch):
    module, batch = prompted(
        same, budget, rate=1e-9
    )  # nothing is masked: the passes differ in the prefix or not at all
    backbone, states = module.encoder.backbone, []
    forward = backbone.forward
    monkeypatch.setattr(backbone, "forward", lambda tokens, **kw: states.append(forward(tokens, **kw)) or states[-1])
    torch.manual_seed(2)
    module.training_step(batch, 0)
    # Both passes take the texts in the order of their lengths, in whatever chunks.
    first, second = torch.cat([one.last[:, 0] for one in states]).split(2 * len(TEXTS))
    for one, other in zip(first, second):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12) == same
    assert not any(torch.allclose(x, y) for x, y in itertools.combinations(first, 2)), "each text draws its own"


def test_chunks_change_nothing_although_the_prefix_has_dropout():
    found = []
    for budget in (None, 60, 1):
        module, batch = prompted(True, budget)
        torch.manual_seed(2)
        loss = module.training_step(batch, 0)
        loss.backward()
        trained = [p for p in module.parameters() if p.requires_grad]
        found.append((loss.detach(), [p.grad for p in trained]))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-10, atol=0)
        for one, other in zip(gradients, found[0][1]):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_steps_draw_other_dropout():
    module, batch = prompted(True, None, rate=1e-9)
    assert module.training_step(batch, 0) != module.training_step(batch, 0)


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
    with pytest.raises(UsageError, match="expected objective.head to read the encoder's tokens"):
        MaskedTokens(TinyHead("roberta")).attach(Encoder(TinyRandom("bert"), pooling="cls"))
    with pytest.raises(UsageError, match="same_prefix_dropout expects an encoder with a prefix"):
        MaskedTokens(TinyHead(), same_prefix_dropout=True).attach(Encoder(TinyRandom("bert"), pooling="cls"))
