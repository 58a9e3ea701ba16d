"""GCSE's objective: the released code's numbers, and what decays when."""

import pytest
import torch
from contract import FROZEN, Table, contract
from paper_rows import TAU, Z1, Z2, Z3
from torch.nn.functional import cosine_similarity

from inbatch.errors import UsageError
from inbatch.losses.base import BatchFacts
from inbatch.losses.contrastive.contrast import contrast
from inbatch.losses.contrastive.gaussian_decay import GaussianDecay, gaussian_decay
from inbatch.losses.contrastive.infonce import unit
from inbatch.views import Views

NEGATIVE = Z3.clone()
NEGATIVE[0] = torch.tensor([-0.5, 0.5, 0.0])
CASES = [  # temperature, sigma, z3, s', d, added, loss, plain loss
    (0.05, 0.17, Z3, [14.2, 14.0, 0.1], [-0.057864, 0.142136, -0.1], [-13.346175, 0, 0], 0.045987, 0.047056),
    (0.05, 8.58, Z3, [18.0, 13.0, 6.0], [-3.857864, 1.142136, -6.0], [-12.782449, 0, 0], 0.045987, 0.047056),
    (0.5, 0.17, NEGATIVE, [-1.4, 1.5, 0.1], [-0.014214, -0.085786, -0.1], [1.409279, -1.245142, 0], 0.980710, 1.024479),
]


def own_logits(z3, tau):
    return cosine_similarity(Z1, z3)[:, None] / tau


@pytest.mark.parametrize(("tau", "sigma", "z3", "held", "gap", "added", "loss", "plain"), CASES)
def test_equals_the_released_code_to_six_digits(tau, sigma, z3, held, gap, added, loss, plain):
    held = torch.tensor(held, dtype=torch.float64)[:, None]
    live = own_logits(z3, tau)
    assert torch.allclose((live - held)[:, 0], torch.tensor(gap, dtype=torch.float64), atol=5e-7)
    weight = gaussian_decay(live, held, sigma)
    assert torch.allclose(weight[:, 0], torch.tensor(added, dtype=torch.float64), atol=5e-7)
    z = unit(Views(Z1, Z2, (z3,)))
    found = contrast(z.anchor, z.positive, z.negatives, scale=1 / tau, hard_negative_weight=weight)
    assert abs(float(found) - loss) < 5e-7
    assert abs(float(contrast(z.anchor, z.positive, z.negatives, scale=1 / tau)) - plain) < 5e-7


@pytest.mark.parametrize(
    ("held", "expected"), [(14.0, 0.00106795), (14.15, 0.0), (14.5, 0.00022893), (15.0, 0.00106790)]
)
def test_gradient_of_the_own_hard_negative(held, expected):
    """The derivative by the hard negative's logit, as the release's softmax has it: a loss of logits is differentiated here."""
    z = unit(Views(Z1, Z2, (Z3,)))
    logits = torch.cat([z.anchor @ z.positive.T, z.anchor @ z.negatives[0].T], 1) / TAU
    logits.requires_grad_()
    own = logits[:, 3:].diagonal()[:, None]
    weight = gaussian_decay(own, torch.tensor([[held], [14.0], [0.1]], dtype=torch.float64), 0.17)
    decayed = logits + torch.cat([torch.zeros(3, 3), torch.diag(weight[:, 0])], 1)
    torch.nn.functional.cross_entropy(decayed, torch.arange(3)).backward()
    assert abs(float(logits.grad[0, 3]) - expected) < 5e-9


def test_the_weight_is_a_constant_and_zero_where_the_model_rates_higher():
    live = torch.tensor([[1.0], [2.0], [-1.0]], requires_grad=True)
    weight = gaussian_decay(live, torch.tensor([[0.5], [2.0], [-1.0]]), 0.1)
    assert not weight.requires_grad
    assert weight[:, 0].tolist() == [0.0, -2.0, 1.0]


class Fixed(torch.nn.Module):
    """A reference that says the same of every text: a row of a table, by its first token."""

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.tokenizer = None

    def forward(self, tokens):
        return self.table[tokens.input_ids[:, 0]]


def test_the_reference_rates_the_rows_own_pairs(token_batch):
    table = torch.cat([Z1, Z2, Z3]).double()
    tokens = Views(
        *(token_batch([[start], [start + 1], [start + 2]]) for start in (0, 3)), (token_batch([[6], [7], [8]]),)
    )
    objective = GaussianDecay(Fixed(table), sigma=0.17)
    z = Views(Z1, Z2, (Z3,))
    # Live and held are equal, so that every own hard negative has logit 0.
    found = objective(z, tokens, None).loss
    n = unit(z)
    logits = torch.cat([n.anchor @ n.positive.T, n.anchor @ n.negatives[0].T], 1) / TAU
    logits[torch.arange(3), torch.arange(3, 6)] = 0.0
    assert torch.allclose(found, torch.nn.functional.cross_entropy(logits, torch.arange(3)))


def test_sigma_in_cosine_does_not_change_with_the_temperature(token_batch):
    tokens = Views(
        *(token_batch([[start], [start + 1], [start + 2]]) for start in (0, 3)), (token_batch([[6], [7], [8]]),)
    )
    noisy = torch.cat([Z1, Z2, Z3 + 0.02])
    in_cosine = GaussianDecay(Fixed(noisy), sigma=0.0085, sigma_unit="cosine")
    in_logits = GaussianDecay(Fixed(noisy), sigma=0.17)
    z = Views(Z1, Z2, (Z3,))
    assert torch.allclose(in_cosine(z, tokens, None).loss, in_logits(z, tokens, None).loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sigma": 0.0}, "finite sigma > 0"), ({"sigma_unit": "radian"}, "sigma_unit to be logits or cosine")],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        GaussianDecay(Fixed(Z1), **options)


def test_data_without_hard_negatives_is_refused():
    with pytest.raises(UsageError, match="GaussianDecay expects a hard negative in every row.*data.sources"):
        GaussianDecay(Fixed(Z1)).check(BatchFacts(rows=8, negatives=0, scored=False))


TestContract = contract(lambda: GaussianDecay(Table(9), sigma=3.0, temperature=0.1), settings={"reference": FROZEN})
