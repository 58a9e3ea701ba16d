"""AnglE: the angle of sentence-transformers, and the sum of its three terms."""

import pytest
import torch
from contract import contract

from inbatch.errors import UsageError
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.losses.graded.angle import Angle, angle_similarity
from inbatch.losses.graded.cosent import CoSENT
from inbatch.views import Views


def batch():
    torch.manual_seed(0)
    return Views(torch.randn(9, 6), torch.randn(9, 6), score=torch.rand(9))


def test_equals_sentence_transformers():
    util = pytest.importorskip("sentence_transformers.util")
    losses = pytest.importorskip("sentence_transformers.losses")
    z = batch()
    assert torch.allclose(
        angle_similarity(z.anchor, z.positive), util.pairwise_angle_sim(z.anchor, z.positive), atol=1e-6
    )
    theirs = losses.AnglELoss(None).compute_loss_from_embeddings([z.anchor, z.positive], z.score)
    assert torch.allclose(Angle()(z, None, None).loss, theirs, rtol=1e-5)


def test_it_is_the_quotient_of_complex_numbers():
    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    u, v = (torch.complex(*t.chunk(2, 1)) for t in (x, y))
    turned = (u * v.conj()).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    assert torch.allclose(angle_similarity(x, y), (turned.real + turned.imag).abs())


def test_the_three_terms_take_scored_pairs():
    z = batch()
    terms = {"cosine": CoSENT(), "angle": Angle(), "pairs": InfoNCE(0.05, positive_score=0.5)}
    output = WeightedSum(terms, {"angle": 0.02})(z, None, None)
    assert torch.isfinite(output.loss)
    kept = (z.score >= 0.5).float()
    logits = 20 * torch.nn.functional.normalize(z.anchor, dim=-1) @ torch.nn.functional.normalize(z.positive, dim=-1).T
    rows = torch.nn.functional.cross_entropy(logits, torch.arange(9), reduction="none")
    assert torch.allclose(output.logs["pairs/loss"], (rows * kept).mean(), rtol=1e-4)


def test_a_positive_score_without_scores_is_refused():
    with pytest.raises(UsageError, match="positive_score asks for a column of scores"):
        InfoNCE(positive_score=0.5)(Views(torch.randn(3, 4), torch.randn(3, 4)), None, None)


TestContract = contract(Angle, scored=True)
