import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inbatch import metrics
from inbatch.errors import TrainingError, UsageError

small_ints = st.integers(-3, 3)  # few values, hence many ties


@given(st.lists(st.tuples(small_ints, small_ints), min_size=2, max_size=40))
def test_spearman_equals_scipy_with_ties(pairs):
    x, y = torch.tensor(pairs, dtype=torch.float32).unbind(1)
    ours = metrics.spearman(x, y)
    if len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=30))
def test_average_ranks_equal_scipy(values):
    assert metrics.average_ranks(torch.tensor(values)).tolist() == stats.rankdata(values).tolist()


def test_average_ranks_stay_exact_beyond_float32():
    values = torch.zeros(2**24 + 4)
    values[-1] = 1
    assert metrics.average_ranks(values)[0].item() == (2**24 + 4) / 2


@pytest.mark.parametrize("other", [torch.zeros(3), torch.zeros(4, 1)])
def test_spearman_refuses_other_shapes(other):
    with pytest.raises(UsageError, match="one length"):
        metrics.spearman(torch.zeros(4), other)


def test_spearman_refuses_a_single_value():
    with pytest.raises(UsageError, match="at least 2"):
        metrics.spearman(torch.zeros(1), torch.zeros(1))


def test_spearman_refuses_nan():
    with pytest.raises(TrainingError, match="NaN"):
        metrics.spearman(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))


def worst_order(scores, relevant):
    """Document indices by falling score; where scores tie, irrelevant documents first."""
    return sorted(range(len(scores)), key=lambda j: (-scores[j], j in relevant))


@st.composite
def problems(draw):
    """Integer embeddings (exact scores, many ties) and a set of relevant documents for each query."""
    q, n, d = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    query = torch.randint(-2, 3, (q, d), generator=generator).float()
    document = torch.randint(-2, 3, (n, d), generator=generator).float()
    sets = [draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=4)) for _ in range(q)]
    return query, document, sets


def padded(sets, width=None):
    width = width or max(map(len, sets))
    return torch.tensor([sorted(s) + [-1] * (width - len(s)) for s in sets])


@given(problems(), st.sampled_from([1, 64, 2**20]), st.integers(1, 6))
def test_ranks_and_metrics_equal_a_sorted_list(problem, block_bytes, k):
    query, document, sets = problem
    ranks = metrics.relevant_ranks(query, document, padded(sets), block_bytes=block_bytes)
    reciprocal, found, gains = [], [], []
    for scores, relevant, row in zip((query @ document.T).tolist(), sets, ranks.tolist()):
        order = worst_order(scores, relevant)
        expected = [rank for rank, j in enumerate(order, 1) if j in relevant]
        assert [r for r in row if r < math.inf] == expected
        assert row == sorted(row)
        reciprocal.append(1 / expected[0] if expected[0] <= k else 0)
        found.append(len(relevant.intersection(order[:k])) / len(relevant))
        dcg = sum(1 / math.log2(1 + rank) for rank in expected if rank <= k)
        gains.append(dcg / sum(1 / math.log2(1 + rank) for rank in range(1, min(k, len(relevant)) + 1)))
    mean = len(sets)
    assert metrics.mrr(ranks, k) == pytest.approx(sum(reciprocal) / mean, abs=1e-12)
    assert metrics.recall(ranks, k) == pytest.approx(sum(found) / mean, abs=1e-12)
    assert metrics.ndcg(ranks, k) == pytest.approx(sum(gains) / mean, abs=1e-12)


def test_ndcg_equals_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    query, document = torch.randn(20, 8, generator=generator), torch.randn(50, 8, generator=generator)
    relevant = torch.stack([torch.randperm(50, generator=generator)[:3] for _ in range(20)])
    truth = torch.zeros(20, 50).scatter_(1, relevant, 1)
    ours = metrics.ndcg(metrics.relevant_ranks(query, document, relevant), 10)
    assert ours == pytest.approx(sklearn.ndcg_score(truth, query @ document.T, k=10), abs=1e-9)


def test_mrr_without_cutoff_reaches_the_last_rank():
    assert metrics.mrr(torch.tensor([[1.0], [1000.0]], dtype=torch.float64)) == pytest.approx(0.5005)


def test_a_collapsed_encoder_gets_the_worst_ranks():
    one_point = torch.nn.functional.normalize(torch.ones(6, 5), dim=1)
    ranks = metrics.relevant_ranks(one_point[:2], one_point, torch.tensor([[0], [3]]))
    assert ranks.tolist() == [[6.0], [6.0]]


def test_equal_documents_tie_wherever_they_stand():
    generator = torch.Generator().manual_seed(1)
    document = torch.nn.functional.normalize(torch.randn(997, 383, generator=generator), dim=1)
    document[[3, 500, 996]] = document[0].clone()
    ranks = metrics.relevant_ranks(document[:1], document, torch.tensor([[0]]))
    assert ranks.item() == 4


def test_bfloat16_embeddings_are_scored_in_float32():
    generator = torch.Generator().manual_seed(2)
    document = torch.randn(300, 16, generator=generator).bfloat16()
    query = (document[:40].float() + 0.4 * torch.randn(40, 16, generator=generator)).bfloat16()
    relevant = torch.arange(40)[:, None]
    low = metrics.relevant_ranks(query, document, relevant)
    assert low.equal(metrics.relevant_ranks(query.float(), document.float(), relevant))


@pytest.mark.parametrize(
    ("shapes", "relevant", "says"),
    [
        (((2, 3), (4, 5)), [[0], [1]], "expected query"),
        (((2, 3), (4, 3)), [[0]], "expected query"),
        (((2, 3), (4, 3)), [[0], [-1]], "without"),
        (((2, 3), (4, 3)), [[0], [4]], "below 4"),
    ],
)
def test_ranks_refuse_what_does_not_fit(shapes, relevant, says):
    with pytest.raises(UsageError, match=says):
        metrics.relevant_ranks(*map(torch.ones, shapes), torch.tensor(relevant))


def test_ranks_refuse_nan_embeddings():
    document = torch.ones(4, 3)
    document[2, 1] = math.nan
    with pytest.raises(TrainingError, match=r"document embeddings.*row 2"):
        metrics.relevant_ranks(torch.ones(1, 3), document, torch.tensor([[0]]))


def test_graded_ndcg_equals_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(3)
    query, document = (
        torch.randn(6, 5, generator=generator),
        torch.randn(30, 5, generator=generator),
    )
    truth = torch.randint(0, 4, (6, 30), generator=generator) * (torch.rand(6, 30, generator=generator) < 0.3)
    truth[:, 0] = 2
    relevant = torch.where(truth > 0, torch.arange(30), -1)
    ranks, gain = metrics.graded_ranks(query, document, relevant, truth)
    assert metrics.ndcg(ranks, 10, gain) == pytest.approx(sklearn.ndcg_score(truth, query @ document.T, k=10), abs=1e-9)
    assert ranks.equal(metrics.relevant_ranks(query, document, relevant))


def test_of_equal_documents_the_one_worth_less_comes_first():
    relevant, gain = torch.tensor([[0, 1, 2]]), torch.tensor([[3.0, 1.0, 2.0]])
    for document in (torch.ones(4, 2), torch.ones(4, 2) * (1 + 1e-7 * torch.arange(4))[:, None]):
        ranks, gains = metrics.graded_ranks(torch.ones(1, 2), document, relevant, gain)
        assert (ranks.tolist(), gains.tolist()) == ([[2.0, 3.0, 4.0]], [[1.0, 2.0, 3.0]])


def test_gains_of_another_shape_are_refused():
    with pytest.raises(UsageError, match="gain"):
        metrics.graded_ranks(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([[0]]), torch.ones(1, 2))
