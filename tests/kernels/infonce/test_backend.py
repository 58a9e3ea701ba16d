"""What backends share: the largest candidates of blocks of logits, and the shifts of rows without candidates."""

import pytest
import torch

from inbatch.kernels.infonce.backend import Backend, finite, shift_and_weight
from inbatch.kernels.infonce.candidates import Rules
from inbatch.kernels.infonce.chunked import CHUNKED


def test_a_backend_says_all_that_it_does():
    with pytest.raises(TypeError, match="abstract"):
        Backend()  # type: ignore[abstract]


@pytest.mark.parametrize(("b", "n", "count"), [(0, 3, 2), (2, 0, 2), (2, 3, 5)])
def test_hardest_fills_up_what_is_missing(b, n, count):
    problem = CHUNKED.problem(torch.ones(b, 2), torch.ones(n, 2), 1.0, Rules.of(None, None, None, None, None), None)
    values, indices = CHUNKED.hardest(problem, count)
    found = min(count, n) if b else 0
    assert values.shape == indices.shape == (b, count)
    assert values[:, found:].isneginf().all()
    assert (indices[:, found:] == -1).all()
    assert (values[:, :found] == 2).all()


def test_rows_without_candidates_have_a_finite_shift_and_no_weight():
    log_sum, slope = torch.tensor([1.0, -torch.inf]), torch.tensor([3.0, torch.nan])
    shift, weight = shift_and_weight((log_sum, slope), torch.tensor(2.0))
    assert torch.equal(shift, torch.tensor([1.0, 0.0]))
    assert torch.equal(weight, torch.tensor([6.0, 0.0]))
    assert torch.equal(finite(log_sum), shift)
