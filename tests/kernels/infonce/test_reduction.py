"""What is per row of the loss: its derivatives by hand are autograd's."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.kernels.infonce import reduction, reference


@given(
    log_sum=st.sampled_from([-torch.inf, -300.0, -3.0, 0.0, 2.0, 300.0]),
    positive=st.sampled_from([-300.0, 0.0, 20.0, 300.0]),
    extra=st.none() | st.lists(st.sampled_from([-torch.inf, -100.0, 1.0, 50.0]), max_size=3),
    factor=st.floats(-2, 2),
)
def test_slopes_equal_autograds(log_sum, positive, extra, factor):
    rows = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (log_sum, positive)]
    more = None if extra is None else torch.tensor([extra], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([factor], dtype=torch.float64)
    inputs = rows if more is None else [*rows, more]
    truth = torch.autograd.grad(
        (weight * reference.row_loss(*rows, more)).sum(), inputs, allow_unused=True, materialize_grads=True
    )
    found = reduction.slopes_of(*(x.detach() for x in rows), None if more is None else more.detach(), weight)
    for x, y in zip(truth, found):
        assert y is not None
        assert torch.allclose(x, y, rtol=1e-12, atol=1e-300)
