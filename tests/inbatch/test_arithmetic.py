"""Rates are tried once for a processor, whatever happens to the file that keeps them."""

from __future__ import annotations

import json
import multiprocessing
from importlib import reload
from pathlib import Path

import pytest
import torch

from inbatch import arithmetic
from inbatch.kernels import trial
from inbatch.kernels.infonce import products
from inbatch.kernels.trial import Rates


class Trials:
    """Stands in for the trial: another rate each time."""

    def __init__(self) -> None:
        self.made: list[Rates] = []

    def __call__(self) -> Rates:
        self.made.append(Rates(100.0 + len(self.made), 90.0, 10.0))
        return self.made[-1]


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module as it is, undoing the stub that all tests have, with a cache folder of its own."""
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))
    reload(arithmetic)
    found = Trials()
    monkeypatch.setattr(trial, "try_products", found)
    yield found
    trial.tell(None)


def test_a_processor_is_tried_once_and_the_operators_are_told(trials: Trials):
    first = arithmetic.measured_rates()
    assert trial.rates() == first
    trial.tell(None)
    assert arithmetic.measured_rates() == first == trial.rates()
    assert len(trials.made) == 1
    assert arithmetic.measured_rates(anew=True) == trials.made[1] == arithmetic.measured_rates()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.setattr(arithmetic, "processor", lambda: "another"),
        lambda m: m.setattr(arithmetic, "_facts", lambda: {"flags": "avx2"}),
        lambda m: m.setattr(torch, "__version__", "9.9"),
        lambda m: m.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER"),
        lambda m: m.setenv("ONEDNN_MAX_CPU_ISA", "SSE41"),
        lambda m: m.setenv("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
    ],
    ids=["name", "flags", "torch", "capability", "oneDNN", "MKL"],
)
def test_another_processor_torch_or_limit_is_tried_by_itself(change, trials: Trials, monkeypatch: pytest.MonkeyPatch):
    first = arithmetic.measured_rates()
    with monkeypatch.context() as changed:
        change(changed)
        assert arithmetic.measured_rates() != first
    assert arithmetic.measured_rates() == first
    assert len(trials.made) == 2


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[1]", "null", '{"KEY": 3}', '{"KEY": {"matmul": 1}}', '{"KEY": {"matmul": "fast", "onednn": 1, "bfloat16": 1}}',
     '{"KEY": {"matmul": NaN, "onednn": 1, "bfloat16": 1}}', '{"KEY": {"matmul": 0, "onednn": 1, "bfloat16": 1}}',
     '{"KEY": {"matmul": 1, "onednn": 1, "bfloat16": -1}}', b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_damaged_file_is_made_again(damage, trials: Trials):
    path = arithmetic.rates_file()
    path.parent.mkdir()
    path.write_bytes(damage if isinstance(damage, bytes) else damage.replace("KEY", arithmetic._key()).encode())
    first = arithmetic.measured_rates()
    assert first == trials.made[0]
    assert arithmetic.measured_rates() == first
    assert len(trials.made) == 1
    assert list(json.loads(path.read_text())) == [arithmetic._key()]


@pytest.mark.parametrize("obstacle", ["a file in its place", "a folder in the file's place"])
def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(obstacle: str, trials: Trials):
    folder = arithmetic.rates_file().parent
    if obstacle.startswith("a file"):
        folder.write_text("in the way")
    else:
        arithmetic.rates_file().mkdir(parents=True)
    assert arithmetic.measured_rates() == trials.made[0]
    assert arithmetic.measured_rates() == trials.made[1] == trial.rates()


def _measure(number: int, results) -> None:
    trial.try_products = lambda: Rates(100.0 + number, 90.0, 10.0)
    results.put(arithmetic.measured_rates())


def test_processes_that_try_at_once_leave_a_whole_file(trials: Trials):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    members = [context.Process(target=_measure, args=(number, results)) for number in range(6)]
    for member in members:
        member.start()
    found = [results.get(timeout=60) for _ in members]
    for member in members:
        member.join(60)
    assert arithmetic.measured_rates() in found
    assert not trials.made
    assert [path.name for path in arithmetic.rates_file().parent.iterdir()] == ["products.json"]


def test_what_was_kept_while_a_trial_ran_is_taken(trials: Trials, monkeypatch: pytest.MonkeyPatch):
    other = Rates(50.0, 40.0, 30.0)

    def slow() -> Rates:
        arithmetic._keep(arithmetic.rates_file(), arithmetic._key(), other)
        return Rates(1.0, 1.0, 1.0)

    monkeypatch.setattr(trial, "try_products", slow)
    assert arithmetic.measured_rates() == other


def test_the_processor_is_described(trials: Trials, monkeypatch: pytest.MonkeyPatch):
    facts = {"model name": "A Processor", "flags": "fpu avx2 avx512f amx_bf16"}
    monkeypatch.setattr(arithmetic, "_facts", lambda: facts)
    for name in arithmetic.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert arithmetic.processor() == "A Processor"
    assert arithmetic.units() == "AVX2, AVX-512, AMX bfloat16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert arithmetic.units().endswith("; limited by ONEDNN_MAX_CPU_ISA=AVX2")
    monkeypatch.setattr(arithmetic, "_facts", dict)
    assert arithmetic.processor()
    assert arithmetic.units()


@pytest.mark.parametrize(("onednn", "name"), [(True, "oneDNN"), (False, "MKL")])
def test_the_library_is_named(onednn: bool, name: str, trials: Trials, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(products, "onednn_float32", lambda: onednn)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert arithmetic.float32_by() == name
