"""Which leaves a value's gradient reaches."""

import torch

from inbatch.kernels.pairwise.graph import foreign_leaf


def test_leaves_are_found_through_any_number_of_steps_and_only_if_they_have_a_gradient():
    a, b, constant = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(2)
    assert foreign_leaf(a * constant, [a]) is None
    assert foreign_leaf(constant, []) is None
    assert foreign_leaf(a, [a]) is None
    assert foreign_leaf(a, []) is a
    assert foreign_leaf(((a + b.exp()).sin() * a).sum(), [a]) is b
    assert foreign_leaf(a * b.detach(), [a]) is None
    with torch.no_grad():
        assert foreign_leaf(a * b, [a]) is None
