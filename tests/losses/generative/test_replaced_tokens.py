"""DiffCSE's second term: the released code's numbers, and the chunks that change nothing."""

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy

from inbatch.errors import UsageError
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.generative.replaced_tokens import ReplacedTokens, detection_losses, edit
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.projectors import BatchNormProjector
from inbatch.models.networks.discriminator import Discriminator
from inbatch.models.networks.masked_lm import TinyGenerator
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

CLS = 101
IDS = [[CLS, 5, 6, 102], [CLS, 5, 6, 102], [CLS, 3, 102], [CLS, 3, 102]]
PREDICTED = torch.tensor([[1, 5, 2, 4], [1, 5, 6, 102], [1, 2, 102, 3], [1, 3, 102, 0]])
STATES = torch.tensor(
    [
        [[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6], [0.2, 0.2]],
        [[0, 1], [1, 0], [0.5, 0.5], [-1, 1]],
        [[0.2, 0.1], [-0.3, 0.9], [0.4, -0.4], [0.6, 0]],
        [[1, 1], [0, 0.5], [0.3, -0.1], [0, 0]],
    ],
    dtype=torch.float64,
)


def test_edits_and_labels_of_the_released_code(token_batch):
    edited, replaced = edit(token_batch(IDS), PREDICTED, CLS)
    assert edited.input_ids.tolist() == [[101, 5, 2, 4], [101, 5, 6, 102], [101, 2, 102, 0], [101, 3, 102, 0]]
    assert replaced.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(("count_padding", "expected"), [(True, 0.642710), (False, 0.665295)])
def test_losses_of_the_released_code_to_six_digits(token_batch, count_padding, expected):
    tokens = token_batch(IDS)
    _, replaced = edit(tokens, PREDICTED, CLS)
    counted = None if count_padding else tokens.attention_mask
    logits = STATES + torch.tensor([0.1, -0.1], dtype=torch.float64)
    found = detection_losses(logits, replaced, counted).sum() / (16 if count_padding else 14)
    assert abs(float(found) - expected) < 5e-7


class Told(torch.nn.Module):
    """A generator and a discriminator that say what the example says."""

    tokenizer = None

    def forward(self, tokens, vectors=None):
        if vectors is None:
            return PREDICTED
        return STATES + torch.tensor([0.1, -0.1], dtype=torch.float64)


def test_the_papers_sum_of_terms(token_batch):
    anchors = torch.tensor([[0.0, 1, 0], [1, 1, 1]], dtype=torch.float64)
    positives = torch.tensor([[0.2, 0.8, 0.1], [1, 0.5, 1]], dtype=torch.float64)
    # The release has the views of a sentence after one another, and so has the generator's one chunk, as rows are sorted by length.
    # The discriminator, whose rows all keep their padding, gets view after view.
    order = torch.tensor([0, 2, 1, 3])
    encoder = Encoder(TinyRandom("bert"), pooling="cls")
    tokenizer = encoder.tokenizer

    class Permuted(Told):
        def forward(self, tokens, vectors=None):
            return super().forward(tokens, vectors)[order]

    tokens = token_batch([IDS[0], IDS[2]])
    encoder.backbone.tokenizer = _WithIds(tokenizer)
    term = ReplacedTokens(Told(), Permuted())
    method = WeightedSum({"contrast": InfoNCE(0.05), "rtd": term}, {"rtd": 0.005})
    output = method(Views(anchors, positives), Views(tokens, tokens), encoder)
    assert abs(float(output.logs["contrast/loss"]) - 0.009500) < 5e-7
    assert abs(float(output.logs["rtd/loss"]) - 0.642710) < 5e-7
    assert abs(float(output.loss) - 0.012714) < 5e-7


class _WithIds:
    """The example's special tokens."""

    padding_side, pad_token_id, cls_token_id, mask_token_id = "right", 0, CLS, 103
    all_special_ids = (0, CLS, 102, 103)

    def __init__(self, tokenizer):
        self.size = len(tokenizer)

    def __len__(self):
        return self.size


TEXTS = ["a short one", "a text that is rather longer than the others", "x", "six words are in this text"]


def diffcse(kind, count_padding=True, attention="auto"):
    torch.manual_seed(0)
    encoder = Encoder(TinyRandom(kind, dropout=0.0, attention=attention), pooling="cls", normalize=False).double()
    rtd = ReplacedTokens(
        TinyGenerator(kind, dropout=False),
        Discriminator(TinyRandom(kind, seed=3, dropout=0.0, attention=attention)),
        rtd_count_padding=count_padding,
    )
    return encoder, WeightedSum({"contrast": InfoNCE(), "rtd": rtd}, {"rtd": 0.5}, BatchNormProjector(32)).double()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_chunks_change_neither_value_nor_gradient(kind, count_padding, attention):
    encoder, objective = diffcse(kind, count_padding, attention)
    for part in objective.terms.values():
        part.attach(encoder)
    tokens = tokenize(encoder.tokenizer, TEXTS)
    z = encoder(tokens).detach()
    results = []
    for budget in (None, 30):
        objective.terms["rtd"].chunk_tokens = budget
        leaf = z.clone().requires_grad_()
        torch.manual_seed(5)  # the masks
        loss = objective(Views(leaf, leaf * 1.1), Views(tokens, tokens), encoder).loss
        parameters = [p for p in objective.parameters() if p.requires_grad]
        results.append([loss, *torch.autograd.grad(loss, [leaf, *parameters], allow_unused=True)])
    for one, many in zip(*results):
        assert (one is None) == (many is None)
        if one is not None:
            torch.testing.assert_close(one, many, atol=1e-12, rtol=1e-9)
    assert results[0][1].abs().sum() > 0


def test_the_gradient_reaches_the_embedding_and_the_discriminator_but_not_the_generator():
    encoder, objective = diffcse("bert")
    tokens = tokenize(encoder.tokenizer, TEXTS)
    z = torch.randn(4, 32, dtype=torch.float64, requires_grad=True)
    objective.terms["rtd"](Views(z, z), Views(tokens, tokens), encoder).loss.backward()
    assert z.grad.abs().sum() > 0
    side = objective.terms["rtd"]
    assert all(p.grad is None and not p.requires_grad for p in side.generator.parameters())
    assert side.discriminator.head.weight.grad.abs().sum() > 0


def test_the_mean_counts_padding_and_so_depends_on_it(token_batch):
    tokens = token_batch(IDS)
    wider = TokenBatch(*(torch.nn.functional.pad(t, (0, 3)) for t in (tokens.input_ids, tokens.attention_mask)))
    labels = edit(tokens, PREDICTED, CLS)[1]
    logits = torch.zeros(4, 4, 2)
    assert (
        detection_losses(logits, labels).sum()
        < detection_losses(torch.zeros(4, 7, 2), torch.nn.functional.pad(labels, (0, 3))).sum()
    )
    assert len(dataclasses.fields(wider)) == len(dataclasses.fields(tokens))
    assert torch.allclose(detection_losses(logits, labels), cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none").view(4, 4).sum(1))  # fmt: skip


@pytest.mark.parametrize("side", ["generator", "discriminator"])
def test_a_side_network_of_another_vocabulary_is_refused(side):
    encoder = Encoder(TinyRandom("bert"), pooling="cls")
    kinds = {"generator": "bert", "discriminator": "bert", side: "roberta"}
    term = ReplacedTokens(TinyGenerator(kinds["generator"]), Discriminator(TinyRandom(kinds["discriminator"])))
    with pytest.raises(UsageError, match=f"expected objective.{side} to read the encoder's tokens"):
        term.attach(encoder)


def test_an_encoder_without_a_mask_token_and_a_rate_beyond_one_are_refused():
    term = ReplacedTokens(TinyGenerator(), Discriminator(TinyRandom()))
    with pytest.raises(UsageError, match="a tokenizer with a mask token"):
        term.attach(Encoder(TinyRandom("llama"), pooling="last"))
    with pytest.raises(UsageError, match=r"masking_rate in \(0, 1\)"):
        ReplacedTokens(TinyGenerator(), Discriminator(TinyRandom()), masking_rate=1.5)
