"""What is computed from rehearsals, and what an optimizer keeps."""

from __future__ import annotations

import pytest
import torch

from inbatch.experiments.doctor.memory import Line, fit_line, state_bytes
from inbatch.experiments.doctor.rehearsal import Held
from inbatch.models.training.adamw_uncorrected_eps import AdamWUncorrectedEps


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (torch.optim.AdamW, 8),
        (AdamWUncorrectedEps, 8),
        (lambda p: torch.optim.SGD(p, lr=0.1), 0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 4),
    ],
)
def test_state_of_an_optimizer(make, expected: float):
    assert state_bytes(make) == expected


def test_line_through_rehearsals():
    truth = Line(fixed=1000.0, token=7.0, text=3.0, update=900.0)
    held = [Held(t, n, round(truth.at(t, n)), 900) for t, n in ((100, 10), (300, 30), (100, 40))]
    assert fit_line(held) == truth
    assert truth.at(10, 10) == 1100
    assert truth.at(-100, 0) == 900, "the optimizer's step is the height"


def test_line_of_a_whole_batch_counts_texts_with_tokens():
    assert fit_line([Held(100, 10, 1000, 5), Held(300, 30, 3000, 4)]) == Line(0.0, 10.0, 0.0, 5)
