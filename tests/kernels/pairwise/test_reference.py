"""The dense sum over pairs against a loop over pairs, and its derivatives against finite differences."""

import torch
from torch.nn.functional import softplus

from inbatch.kernels.pairwise import reference


def test_equals_a_loop_over_the_pairs():
    rng = torch.Generator().manual_seed(0)
    q, k = (torch.randn(rows, 3, generator=rng, dtype=torch.float64) for rows in (4, 6))
    ids = torch.tensor([[1, 2], [3, 3], [-1, 5], [7, 8]]), torch.tensor([2, 9, 3, 7, 10, -1])
    weight, margin, bias = torch.rand(4, generator=rng), torch.arange(4.0), torch.arange(6.0)
    found = reference.sum_over_pairs(
        q, k, lambda s, m, c, t: (s * t - m + c) ** 2, own=1, query_ids=ids[0], key_ids=ids[1], weight=weight,
        rows=(margin,), columns=(bias,), parameters=(torch.tensor(3.0),),
    )  # fmt: skip
    truth = 0.0
    for i in range(4):
        for j in range(6):
            left, right = set(ids[0][i].tolist()), {ids[1][j].item()}
            if j != 1 + i and not left & right and -1 not in left | right:
                truth += weight[i].item() * (float(q[i] @ k[j]) * 3 - margin[i].item() + bias[j].item()) ** 2
    assert abs(found.item() - truth) < 1e-10


def test_first_and_second_derivatives():
    leaves = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((3, 2), (4, 2), (), (3,), (4,))]

    def function(q, k, scale, margin, bias):
        return reference.sum_over_pairs(q, k, lambda s, m, c, t: softplus(s * t + m * c), rows=(margin,), columns=(bias,),
                                        parameters=(scale,))  # fmt: skip

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)
