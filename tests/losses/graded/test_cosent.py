"""CoSENT's ranking: the double sum, ties included."""

import pytest
import torch
from contract import contract
from hypothesis import given
from hypothesis import strategies as st

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.graded.cosent import CoSENT, ranking
from inbatch.views import Views


def naive(similarity, score, scale):
    differences = scale * (similarity[:, None] - similarity[None, :])
    kept = differences[score[:, None] < score[None, :]]
    return torch.cat([kept.new_zeros(1), kept]).logsumexp(0)


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 4)), min_size=1, max_size=12), st.sampled_from([1.0, 20.0]))
def test_equals_the_double_sum_in_value_and_gradient(rows, scale):
    similarity = torch.tensor([r[0] for r in rows], dtype=torch.float64, requires_grad=True)
    score = torch.tensor([float(r[1]) for r in rows])
    mine, theirs = ranking(similarity, score, scale), naive(similarity, score, scale)
    assert torch.allclose(mine, theirs, atol=1e-12)
    found, wanted = (torch.autograd.grad(x, similarity, allow_unused=True)[0] for x in (mine, theirs))
    wanted = torch.zeros_like(similarity) if wanted is None else wanted
    assert torch.allclose(found, wanted, atol=1e-10)


def test_equals_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.losses")
    torch.manual_seed(0)
    a, p, score = torch.randn(9, 6), torch.randn(9, 6), torch.rand(9)
    theirs = losses.CoSENTLoss(None).compute_loss_from_embeddings([a, p], score)
    assert torch.allclose(CoSENT()(Views(a, p, score=score), None, None).loss, theirs, rtol=1e-5)


def test_data_without_scores_and_a_scale_of_zero_are_refused():
    with pytest.raises(UsageError, match="CoSENT expects a score in every row"):
        CoSENT().check(BatchFacts(8, 0, False))
    with pytest.raises(UsageError, match="finite scale > 0"):
        CoSENT(0.0)


def dense(z):
    similarity = torch.nn.functional.cosine_similarity(z.anchor, z.positive)
    return naive(similarity, z.score, 20.0)


TestContract = contract(CoSENT, dense=dense, scored=True)
