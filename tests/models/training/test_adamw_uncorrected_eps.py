"""AdamW whose eps is not corrected: the formula in a loop of Python numbers, torch's without eps, and a state that goes on bitwise."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from modules import QUIET, batches, module_of, train
from torch import nn

from inbatch.errors import UsageError
from inbatch.models.training.adamw_uncorrected_eps import AdamWUncorrectedEps

RATES = [0.1, 0.03, 0.02, 0.05, 0.01, 0.2]
SETTINGS = {"betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.1}


def by_hand(
    start: float, gradients: list[float | None], *, betas: tuple[float, float], eps: float, weight_decay: float
):
    """One number through the release's update, as its formula is written; None is a step without a gradient."""
    p, m, v, t, path = start, 0.0, 0.0, 0, []
    for rate, g in zip(RATES, gradients):
        if g is not None:
            t += 1
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g * g
            p -= rate * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) * m / (math.sqrt(v) + eps)
            p -= rate * weight_decay * p
        path.append(p)
    return path


def path_of(make, start: torch.Tensor, gradients: list[torch.Tensor | None]) -> list[torch.Tensor]:
    p = nn.Parameter(start.clone())
    optimizer = make([p])
    path = []
    for rate, gradient in zip(RATES, gradients):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return path


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Gradients of which some are no larger than eps, where the difference shows."""
    generator = torch.Generator().manual_seed(3)
    sizes = 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 6 - 5)
    return (sizes * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize(("eps", "weight_decay"), [(1e-2, 0.1), (1e-2, 0.0), (1e-8, 0.3)])
@pytest.mark.parametrize("missing", [None, 0, 2])
def test_equals_the_formula(eps: float, weight_decay: float, missing: int | None):
    start, gradients = drawn(5), list(drawn(6, 5))
    given = [None if step == missing else gradient for step, gradient in enumerate(gradients)]
    settings = SETTINGS | {"eps": eps, "weight_decay": weight_decay}
    found = path_of(lambda p: AdamWUncorrectedEps(p, **settings), start, given)
    for i in range(5):
        numbers = [None if gradient is None else gradient[i].item() for gradient in given]
        expected = by_hand(start[i].item(), numbers, **settings)
        assert [p[i].item() for p in found] == pytest.approx(expected, rel=1e-12)


def test_without_eps_and_decay_it_is_torchs():
    start, gradients = drawn(4, 3), list(drawn(6, 4, 3))
    settings = {"betas": (0.9, 0.999), "eps": 0.0, "weight_decay": 0.0}
    ours, theirs = (
        path_of(lambda p, kind=kind: kind(p, **settings), start, gradients)
        for kind in (AdamWUncorrectedEps, torch.optim.AdamW)
    )
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-15)


def test_the_decay_comes_after_the_step_where_torchs_comes_before():
    """With weight decay alone both multiply; with a step, torch's decays the weight that was there before it."""
    start, gradients = torch.ones(1, dtype=torch.float64), [torch.ones(1, dtype=torch.float64)]
    settings = {"eps": 0.0, "weight_decay": 0.5}
    (ours,) = path_of(lambda p: AdamWUncorrectedEps(p, **settings), start, gradients)
    (theirs,) = path_of(lambda p: torch.optim.AdamW(p, **settings), start, gradients)
    rate = RATES[0]
    assert ours.item() == pytest.approx((1 - rate) * (1 - rate * 0.5), rel=1e-12)
    assert theirs.item() == pytest.approx(1 * (1 - rate * 0.5) - rate, rel=1e-12)


@pytest.mark.parametrize("beta2", [0.999, 0.99])
def test_the_first_step_is_that_of_torch_with_a_larger_eps(beta2: float):
    start, gradients = drawn(8), [drawn(8)]
    settings = {"betas": (0.9, beta2)}
    (ours,) = path_of(lambda p: AdamWUncorrectedEps(p, eps=1e-4, **settings), start, gradients)
    larger = 1e-4 / math.sqrt(1 - beta2)  # 32 times for 0.999
    (theirs,) = path_of(lambda p: torch.optim.AdamW(p, eps=larger, weight_decay=0.0, **settings), start, gradients)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    (plain,) = path_of(lambda p: torch.optim.AdamW(p, eps=1e-4, weight_decay=0.0, **settings), start, gradients)
    assert (ours - start).abs().max() <= (plain - start).abs().max()
    assert not torch.allclose(ours, plain)


def test_groups_and_parameters_of_several_dtypes():
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    unused = nn.Parameter(torch.ones(1))
    optimizer = AdamWUncorrectedEps(
        [{"params": [one, other], "weight_decay": 0.0}, {"params": [unused]}], lr=0.1, weight_decay=0.5
    )
    loss = optimizer.step(lambda: ((one.sum() + other.sum()).backward(), 7.0)[1])
    assert loss == 7.0
    torch.testing.assert_close(one.detach(), torch.full((3,), 0.9))
    torch.testing.assert_close(other.detach(), torch.full((2, 2), 0.9, dtype=torch.float64))
    assert unused.item() == 1
    assert not optimizer.state[unused]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_state_goes_on_bitwise(dtype: torch.dtype):
    start, gradients = drawn(7, dtype=dtype), list(drawn(6, 7, dtype=dtype))
    whole = path_of(lambda p: AdamWUncorrectedEps(p, **SETTINGS), start, gradients)
    p = nn.Parameter(start.clone())
    for step, (rate, gradient) in enumerate(zip(RATES, gradients)):
        optimizer = AdamWUncorrectedEps([p], lr=rate, **SETTINGS)
        if step:
            state = torch.load(file, weights_only=True)  # noqa: F821 (of the step before)
            optimizer.load_state_dict(state)
            optimizer.param_groups[0]["lr"] = rate
        p.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(p.detach(), whole[step])
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)


class SaveAfterTwoSteps(Callback):
    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == 2:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "two.ckpt")


def test_a_run_that_resumes_takes_the_steps_it_would_have_taken(tmp_path):
    ends = []
    for checkpoint in (None, str(tmp_path / "two.ckpt")):
        module = module_of(optimizer=lambda groups: AdamWUncorrectedEps(groups, lr=0.01, eps=1e-3, weight_decay=0.1))
        trainer = Trainer(**QUIET, default_root_dir=tmp_path, max_steps=5, callbacks=[SaveAfterTwoSteps()])
        trainer.fit(module, batches(module.encoder, count=1), ckpt_path=checkpoint, weights_only=True)
        ends.append(module.state_dict())
    assert next(iter(trainer.optimizers[0].state.values()))["step"] == 5
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": -1.0}, "expected lr >= 0; got -1"),
        ({"eps": -1e-8}, "expected eps >= 0"),
        ({"eps": math.nan}, "expected eps >= 0; got nan"),
        ({"weight_decay": -0.1}, "expected weight_decay >= 0"),
        ({"betas": (0.9, 1.0)}, r"expected betas in \[0, 1\); got \(0.9, 1.0\)"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, sentence: str, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        AdamWUncorrectedEps([nn.Parameter(torch.ones(1))], **settings)
    module = module_of(optimizer=lambda groups: AdamWUncorrectedEps(groups, **settings))
    with pytest.raises(UsageError, match=f"the optimizer refuses its settings: {sentence}.*optimizer.init_args"):
        train(module, tmp_path)
