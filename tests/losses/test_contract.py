"""Each check of the harness fails for an objective that breaks its rule."""

from __future__ import annotations

import pytest
import torch
from contract import contract
from torch.nn.functional import cross_entropy, normalize

from inbatch.losses.base import LossOutput, Objective


def dense(z, temperature=0.1):
    q, k = normalize(z.anchor, dim=-1), normalize(z.positive, dim=-1)
    return cross_entropy(q @ k.T / temperature, torch.arange(len(q)))


class Dense(Objective):
    """Materializes the similarity matrix, and has no candidates of other ranks."""

    def forward(self, z, tokens, encoder):
        return LossOutput(dense(z), {})


class Drawing(Objective):
    """Says nothing of data that it cannot take."""

    def forward(self, z, tokens, encoder):
        return LossOutput(dense(z) / (len(z.negatives) - 2), {})


class Constant(Objective):
    def forward(self, z, tokens, encoder):
        return LossOutput(0.0 * z.anchor.sum() + 1.0, {})


def test_a_matrix_of_the_batch_is_seen(monkeypatch):
    with pytest.raises(AssertionError):
        contract(Dense)().test_no_matrix_of_the_batch(4_096, monkeypatch)


def test_a_loss_of_one_rank_only_is_seen():
    with pytest.raises(AssertionError):
        contract(Dense)().test_ranks_equal_one_process(2)


def test_another_formula_is_seen():
    held = contract(Dense, dense=lambda z: dense(z, 0.11))()
    with pytest.raises(AssertionError):
        held.test_value_and_gradient_equal_the_dense_formula()
    contract(Dense, dense=dense)().test_value_and_gradient_equal_the_dense_formula()


def test_data_that_give_no_finite_loss_and_no_refusal_are_seen():
    with pytest.raises(AssertionError):
        contract(Drawing)().test_data_are_refused_before_the_first_step_or_run(2, False)


def test_a_loss_without_a_gradient_is_seen(tmp_path):
    with pytest.raises(AssertionError):
        contract(Constant, settings={})().test_ranks_equal_one_process(2)
