"""The trial of products ends in time on every processor, and the operators go by what it found."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from inbatch.kernels import trial
from inbatch.kernels.infonce import products
from inbatch.kernels.trial import Rates


@pytest.fixture
def told():
    yield trial.tell
    trial.tell(None)


class Processor:
    """Stands in for the clock and for a product: each takes as long rate, in GFLOP/s, says."""

    def __init__(self, rate: float) -> None:
        self.rate, self.now, self.rows = rate, 0.0, []

    def thread_time(self) -> float:
        return self.now

    def product(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        self.now += 2e-9 * len(x) * trial.DEPTH * trial.WIDTH / self.rate
        return x


@pytest.mark.parametrize(("rate", "rows"), [(0.3, 8), (1, 8), (12, 128), (70, 1024), (1200, 1024)])
def test_a_trial_takes_its_time_whether_products_are_slow_or_fast(rate: float, rows: int, monkeypatch):
    processor = Processor(rate)
    monkeypatch.setattr(trial, "time", SimpleNamespace(thread_time=processor.thread_time))
    assert trial._rate(processor.product, torch.float32, 0.08) == pytest.approx(rate)
    assert processor.now <= 0.1
    assert processor.rows[-1] == rows


def test_this_processor_is_tried_on_one_thread_and_its_threads_are_given_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = trial.try_products(0.03)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert found.matmul > 0
    assert found.bfloat16 > 0
    assert (found.onednn > 0) == trial.has_onednn()


def test_a_product_that_this_torch_does_not_have_is_none(monkeypatch):
    def failing(product, dtype, seconds):
        if dtype == torch.bfloat16:
            raise RuntimeError("not implemented")
        return 50.0

    monkeypatch.setattr(trial, "_rate", failing)
    monkeypatch.setattr(trial, "has_onednn", lambda: False)
    assert trial.try_products() == Rates(50.0, 0.0, 0.0)


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
@pytest.mark.parametrize(
    ("rates", "onednn", "bfloat16"),
    [
        (Rates(195, 445, 60), True, False),
        (Rates(160, 70, 1200), False, True),
        (Rates(70, 0, 10), False, False),
        (Rates(50, 100, 110), True, False),  # bfloat16 must be faster than the better of the two
    ],
)
def test_the_faster_library_multiplies(capability: str, rates: Rates, onednn: bool, bfloat16: bool, told, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    told(rates)
    assert products.onednn_float32() == onednn
    assert products.bfloat16_units() == bfloat16


@pytest.mark.parametrize("rates", [None, Rates(100, 90, 10), Rates(100, 110, 10)])
def test_a_tie_leaves_the_choice_to_the_flags(rates: Rates | None, told, monkeypatch):
    if not trial.has_onednn():
        pytest.skip("this torch has no oneDNN float32 products")
    told(rates)
    for capability in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert products.onednn_float32() == (capability == "AVX512")
