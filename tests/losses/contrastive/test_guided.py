"""GISTEmbed: sentence-transformers' loss, block by block."""

import pytest
import torch
from contract import FROZEN, Table, contract
from torch.nn.functional import cross_entropy, normalize

from inbatch.errors import UsageError
from inbatch.losses.contrastive.guided import Guided, guided_contrast
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.text.tokens import tokenize
from inbatch.views import Views


def draw(b, d, seed, columns=3):
    generator = torch.Generator().manual_seed(seed)
    made = [normalize(torch.randn(b, d, generator=generator, dtype=torch.float64), dim=-1) for _ in range(columns)]
    return Views(made[0], made[1], tuple(made[2:]))


def dense(z, g, ceiling, scale):
    """All blocks of one denominator, as the published loss writes them."""
    blocks, b = [], len(z.anchor)
    for left, right in (("a", "p"), ("a", "a"), ("p", "p"), *(("a", i) for i in range(len(z.negatives)))):

        def pick(v, name):
            return v.anchor if name == "a" else v.positive if name == "p" else v.negatives[name]

        cosine, guide = pick(z, left) @ pick(z, right).T, pick(g, left) @ pick(g, right).T
        drop = guide > ceiling[:, None]
        drop.fill_diagonal_(False) if (left, right) == ("a", "p") else None
        if left == right:
            drop.fill_diagonal_(True)
        blocks.append(cosine.masked_fill(drop, -torch.inf))
    return cross_entropy(scale * torch.cat(blocks, 1), torch.arange(b))


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_value_and_gradient_equal_the_dense_form(columns, margin):
    z, g = draw(7, 5, 0, columns), draw(7, 4, 1, columns)
    leaves = [view.clone().requires_grad_() for view in z]
    ceiling = (g.anchor * g.positive).sum(1) - margin
    mine = guided_contrast(z.replace_payloads(leaves), g, ceiling, 20.0)
    theirs = dense(z.replace_payloads(leaves), g, ceiling, 20.0)
    assert torch.allclose(mine, theirs)
    for found, wanted in zip(*(torch.autograd.grad(x, leaves) for x in (mine, theirs))):
        assert torch.allclose(found, wanted)


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_equals_sentence_transformers(kind):
    losses = pytest.importorskip("sentence_transformers.losses")
    z, g = (draw(7, 5, seed).map(torch.Tensor.float) for seed in (0, 1))
    peer = losses.GISTEmbedLoss.__new__(losses.GISTEmbedLoss)
    torch.nn.Module.__init__(peer)
    peer.guide, peer.temperature, peer.margin, peer.margin_strategy = None, 0.05, 0.1, kind
    peer.contrast_anchors = peer.contrast_positives = True
    peer.gather_across_devices, peer.must_retokenize = False, False
    peer.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
    peer.cross_entropy_loss = torch.nn.CrossEntropyLoss()

    class Told(torch.nn.Module):
        def __init__(self, views):
            super().__init__()
            self.views, self.tokenizer = views, None

        def forward(self, features):
            return {"sentence_embedding": list(self.views)[features["role"]]}

    peer.model, peer.guide = Told(z), Told(g)
    try:
        theirs = peer([{"role": i} for i in range(3)], None)
    except (AttributeError, TypeError) as error:
        pytest.skip(f"this version of sentence-transformers builds the loss otherwise: {error}")
    own = (g.anchor * g.positive).sum(1)
    ceiling = own - 0.1 * (1 if kind == "absolute" else own.abs())
    assert torch.allclose(guided_contrast(z, g, ceiling, 20.0), theirs, rtol=1e-5)


def test_the_guide_reads_the_rows_tokens():
    encoder = Encoder(TinyRandom(dropout=0.0), pooling="cls").eval()
    guide = Encoder(TinyRandom(seed=4), pooling="mean").eval()
    tokens = Views(*(tokenize(encoder.tokenizer, [f"{role} {i}" for i in range(5)]) for role in ("who", "what")))
    objective = Guided(guide, temperature=0.05)
    objective.attach(encoder)
    z, g = tokens.map(encoder), tokens.map(guide)
    expected = dense(z, g, (g.anchor * g.positive).sum(1), 20.0)
    assert torch.allclose(objective(z, tokens, encoder).loss, expected, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    guide = Encoder(TinyRandom("roberta"))
    with pytest.raises(UsageError, match="expected objective.guide to read the encoder's tokens"):
        Guided(guide).attach(Encoder(TinyRandom("bert")))
    with pytest.raises(UsageError, match="finite temperature > 0"):
        Guided(guide, temperature=0.0)
    with pytest.raises(UsageError, match="margin_kind to be absolute or relative"):
        Guided(guide, margin_kind="wide")


TestContract = contract(lambda: Guided(Table(9), temperature=0.1), settings={"guide": FROZEN})
