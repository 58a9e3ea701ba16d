"""What fits into a budget: never less than the smallest plan, never more than the largest, and as much allows between."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inbatch.experiments import budget
from inbatch.experiments.budget import BESIDE, ENCODED_PAIRS, FEWEST, MOST, STEPS, Plan, Rates, fit_into, measure
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder

speeds = st.floats(10, 1e7)


@given(seconds=st.floats(1, 1e5), trained=speeds, ratio=st.floats(1.5, 6), spent=st.floats(0, 300))
def test_a_plan_keeps_to_its_budget_where_the_smallest_does(seconds, trained, ratio, spent):
    plan = fit_into(seconds, Rates(trained, ratio * trained), spent=spent)
    assert FEWEST <= plan.pairs <= MOST
    assert STEPS[0] <= plan.steps <= STEPS[1]
    assert plan.pairs == MOST or plan.steps == STEPS[0]
    if (plan.pairs, plan.steps) != (FEWEST, STEPS[0]):
        assert plan.seconds <= seconds * (1 + 1e-9)


@given(trained=speeds, factor=st.floats(1, 100))
def test_a_faster_machine_never_trains_on_less(trained, factor):
    slow, fast = (fit_into(360, Rates(rate, 4 * rate)) for rate in (trained, factor * trained))
    assert fast.pairs * fast.steps >= slow.pairs * slow.steps


def test_pairs_come_before_steps():
    tokens = 75.0
    encoding = ENCODED_PAIRS * tokens / 4000

    def at(rate, pairs_in_all):
        return fit_into(BESIDE + encoding + pairs_in_all * tokens / rate + 1e-6, Rates(rate, 4000), tokens)

    assert (at(1000, 4 * 512).pairs, at(1000, 4 * 512).steps) == (513, 4)
    assert (at(1000, 4 * 1024).pairs, at(1000, 4 * 1024).steps) == (1024, 4)
    assert (at(1000, 4 * 2048).pairs, at(1000, 4 * 2048).steps) == (2048, 4)
    assert (at(1000, 9 * 2048).pairs, at(1000, 9 * 2048).steps) == (2048, 9)
    assert (at(1000, 99 * 2048).pairs, at(1000, 99 * 2048).steps) == (2048, 32)


def test_what_is_said_holds_the_numbers_and_what_another_machine_does():
    plan = Plan(pairs=640, steps=4, training=200.0, encoding=100.0, budget=360.0, spent=10.0)
    lines = plan.describe()
    assert "4 steps of 640 pairs, 639 in-batch negatives" in lines
    assert "5 min 50 s" in lines
    assert "3 min 20 s of training" in lines
    # (200 s · 2048/640 + 100 s) in the 310 s that are neither over nor beside the network
    assert "a machine 2.4 times as fast takes 4 steps of 2,048 pairs" in lines
    assert math.isclose((200 * 2048 / 640 + 100) / 310, 2.387, abs_tol=1e-3)
    assert "smallest" not in lines
    over = Plan(FEWEST, 4, 500.0, 100.0, 360.0)
    assert "this is the smallest plan" in over.describe()
    assert "more steps, up to 32" in Plan(MOST, 8, 100.0, 20.0, 360.0).describe()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_chunk_is_timed_and_leaves_the_encoder_as_it_was(precision):
    encoder = Encoder(TinyRandom("bert"), pooling="mean").eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    rates = measure(encoder, precision)
    assert rates.trained > 0
    assert rates.encoded > 0
    assert not encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_training_costs_a_forward_pass_and_one_with_gradient(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 26.0])  # a warm-up, 2 s forward, 6 s with gradient
    monkeypatch.setattr(budget.time, "perf_counter", lambda: next(clock))
    rates = measure(Encoder(TinyRandom("bert"), pooling="mean"))
    assert rates == Rates(trained=2048 / 8, encoded=2048 / 2)
    clock = iter(
        [0.0, 9.0, 10.0, 14.0, 20.0, 21.0, 30.0, 33.0]
    )  # 4 s in float32; in bfloat16 1 s forward, 3 s with gradient
    rates = measure(Encoder(TinyRandom("bert"), pooling="mean"), "bf16-mixed")
    assert rates == Rates(trained=2048 / 4, encoded=2048 / 4)
