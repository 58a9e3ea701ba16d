"""The kinds of data of the benchmark are what their names say."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from inbatch.experiments.benchmarks.regimes import REGIMES, embeddings


@pytest.mark.parametrize("regime", REGIMES)
def test_vectors_are_normalised_and_have_the_digits_of_bfloat16(regime):
    pair = embeddings(regime, 100, 64, 20.0, "cpu")
    for x, again in zip(pair, embeddings(regime, 100, 64, 20.0, "cpu")):
        assert torch.allclose(x.norm(dim=1), torch.ones(100), atol=4e-3)
        assert torch.equal(x, x.bfloat16().float())
        assert torch.equal(x, again)
    assert not torch.equal(pair[0], embeddings(regime, 100, 64, 20.0, "cpu", seed=1)[0])


@pytest.mark.parametrize(("rows", "dim", "scale"), [(300, 384, 20.0), (1000, 384, 20.0), (1000, 768, 50.0)])
def test_converged_has_a_loss_of_about_a_millionth(rows, dim, scale):
    q, k = (x.double() for x in embeddings("converged", rows, dim, scale, "cpu"))
    assert 1e-8 < cross_entropy(scale * q @ k.T, torch.arange(rows)) < 1e-4


def test_flat_vectors_resemble_each_other_and_clusters_have_topics():
    flat = embeddings("flat", 200, 128, 20.0, "cpu")[0]
    assert 0.7 < (flat @ flat.T).mean() < 0.9
    topics = embeddings("clustered", 200, 128, 20.0, "cpu")[0]
    cosines = (topics @ topics.T)[~torch.eye(200, dtype=torch.bool)]
    assert cosines.mean() < 0.1
    assert 0.005 < (cosines > 0.4).double().mean() < 0.05


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="regime of random, flat, clustered, converged; got 'easy'"):
        embeddings("easy", 2, 2, 1.0, "cpu")
