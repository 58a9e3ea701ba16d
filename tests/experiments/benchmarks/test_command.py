"""The benchmarks: the gate comes first and can be red, the numbers come out whole, bad options are refused."""

import argparse
import json

import pytest
import torch

from inbatch import cli
from inbatch.errors import InbatchError
from inbatch.experiments.benchmarks import contestants
from inbatch.experiments.benchmarks import kernels as bench_kernels
from inbatch.experiments.benchmarks import train as bench_train
from inbatch.experiments.benchmarks.regimes import REGIMES
from inbatch.experiments.benchmarks.timing import (
    Timing,
    gemm_rate,
    interleave,
    machine,
    notes,
    peak_bytes,
    rows,
    summary,
    warn_of_noise,
)
from inbatch.run.provenance import commit


@pytest.fixture(autouse=True)
def square(monkeypatch):
    """A ceiling that costs nothing, whatever the processor."""
    monkeypatch.setitem(bench_kernels.SQUARE, "cpu", 128)


SMALL = ["bench", "kernels", "--rows", "64", "--dim", "16"]


def test_kernels_reports_ours_and_peers(tmp_path, capsys):
    out = tmp_path / "result.json"
    assert cli.main([*SMALL, "--repetitions", "3", "--json", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    (shape,) = result["shapes"]
    assert (
        {"inbatch float32", "inbatch bfloat16", "autograd cross_entropy"}
        <= set(shape["timings"])
        == set(result["gate"])
    )
    assert shape["timings"]["inbatch float32"]["ratio_to_ours"] == 1
    assert len(shape["timings"]["inbatch float32"]["seconds"]) == 3
    assert set(shape["bytes_beyond_inputs_and_gradients"]) == set(shape["timings"])
    assert result["backend"] == "chunked"
    ours = result["gate"]["inbatch float32"]
    assert set(ours["gradient"]) == set(ours["loss"]) == set(REGIMES)
    assert all(found["same_bits"] for name, found in result["gate"].items() if name.startswith("inbatch"))


def test_a_converged_loss_keeps_its_digits_where_autograd_loses_them():
    absent = []
    everyone = [*contestants.ours("cpu"), *contestants.peers("cpu", absent)]
    errors = bench_kernels.check(everyone, 64, 20.0, "cpu", 0, absent)
    assert errors["inbatch float32"]["gradient"]["converged"] < 1e-4
    assert errors["autograd cross_entropy"]["gradient"]["converged"] > 1e-3


def test_only_ours_skips_the_peers(capsys):
    assert cli.main([*SMALL, "--repetitions", "1", "--only-ours"]) == 0
    out = capsys.readouterr().out
    assert "same bits" in out
    assert "inbatch float32" in out
    assert "cross_entropy" not in out


def test_the_operators_multiply_as_those_of_a_run_do(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("inbatch.arithmetic.measured_rates", lambda: asked.append(1))
    assert cli.main([*SMALL, "--repetitions", "1", "--only-ours"]) == 0
    assert asked


@pytest.mark.parametrize("name", ["_ours", "_symmetric"])
def test_a_wrong_gradient_of_ours_stops_the_benchmark(name, monkeypatch, capsys):
    monkeypatch.setattr(contestants, name, lambda q, k, scale: 1.1 * contestants.naive(q, k, scale))
    assert cli.main(SMALL) == 1
    assert "the gate is red" in capsys.readouterr().err


def test_an_error_of_ours_is_not_taken_for_an_absent_peer(monkeypatch):
    def broken(q, k, scale):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(contestants, "_ours", broken)
    with pytest.raises(RuntimeError, match="no kernel"):
        bench_kernels.check(contestants.ours("cpu"), 8, 20.0, "cpu", 0, [])


def test_a_peer_that_fails_is_skipped_by_name_and_one_that_is_wrong_is_shown(monkeypatch):
    def broken(q, k, scale):
        raise ValueError("not this shape\nat all")

    everyone = [
        *contestants.ours("cpu"),
        contestants.Contestant("broken", broken, torch.float32),
        contestants.Contestant("wrong", lambda q, k, s: 2 * contestants.naive(q, k, s), torch.float32),
    ]
    absent = []
    errors = bench_kernels.check(everyone, 16, 20.0, "cpu", 0, absent)
    assert absent == ["broken (ValueError: not this shape)"]
    assert errors["wrong"]["gradient"]["random"] == pytest.approx(1, abs=1e-3)
    assert "broken" not in errors


def test_peers_that_run_out_of_memory_are_skipped_and_ours_are_not(monkeypatch):
    def hungry(q, k, scale):
        raise torch.OutOfMemoryError("CUDA out of memory")

    peer = contestants.Contestant("hungry", hungry, torch.float32)
    absent = []
    shape = (32, 8, 0.05, True, "random", "cpu", 0, 1, absent)
    found = bench_kernels._measure([*contestants.ours("cpu"), peer], *shape)
    assert absent == ["hungry at 32 rows (out of memory)"]
    assert "hungry" not in found["timings"]
    odd = contestants.Contestant("odd", lambda q, k, s: [][0], torch.float32)
    assert "odd" not in bench_kernels._measure([*contestants.ours("cpu"), odd], *shape)["timings"]
    assert absent[-1] == "odd at 32 rows (IndexError: list index out of range)"
    with pytest.raises(torch.OutOfMemoryError):
        bench_kernels._measure([contestants.Contestant("ours", hungry, torch.float32, 1e-3)], *shape)


def test_a_gpu_runs_several_shapes_and_quick_is_the_first():
    parser = argparse.ArgumentParser()
    bench_kernels.configure(parser)
    shapes, repetitions = bench_kernels._shapes(parser.parse_args([]), "cuda")
    assert (shapes, repetitions) == (bench_kernels.ON_GPU, 20)
    quick, repetitions = bench_kernels._shapes(parser.parse_args(["--quick"]), "cuda")
    assert (quick, repetitions) == (shapes[:1], 6)
    own, repetitions = bench_kernels._shapes(parser.parse_args(["--rows", "9", "--repetitions", "2"]), "cpu")
    assert (own, repetitions) == ([(9, 384, 0.05, True)], 2)


@pytest.mark.parametrize("kind", ["kernels", "train"])
def test_numbers_below_one_are_refused(kind, capsys):
    assert cli.main(["bench", kind, "--repetitions", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_an_unknown_kind_is_refused():
    assert cli.main(["bench", "kernel"]) == 2


def test_the_gate_of_train_compares_losses_and_gradients():
    right = (torch.tensor(2.0), {"w": torch.tensor([1.0, 3.0])})
    steps = {"inbatch": lambda: right, "peer": lambda: (torch.tensor(2.0), {"w": torch.tensor([1.0, 3.0003])})}
    assert bench_train.check(steps) == pytest.approx(1e-4, rel=0.1)
    for wrong in (
        (torch.tensor(2.1), right[1]),
        (right[0], {"w": torch.tensor([1.0, -3.0])}),
        (right[0], {"v": right[1]["w"]}),
    ):
        with pytest.raises(InbatchError, match="the gate is red: peer"):
            bench_train.check({**steps, "peer": lambda wrong=wrong: wrong})


def test_more_pairs_than_there_are_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(
        "inbatch.data.sources.environment.environment_pairs", lambda split: {"anchor": ["a"], "positive": ["b"]}
    )
    assert cli.main(["bench", "train", "--pairs", "5"]) == 2
    assert "at most 1 pairs" in capsys.readouterr().err


@pytest.mark.slow
def test_train_against_its_peer(minilm, capsys):
    pytest.importorskip("sentence_transformers")
    assert cli.main(["bench", "train", "--pairs", "32", "--repetitions", "1", "--precision", "float32", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["timings"]["float32"]) == ["inbatch", "sentence-transformers cached, mini-batch 32"]
    assert 0 < result["gate"] < 1e-3


def test_contestants_take_turns_and_the_first_round_is_not_counted():
    calls = []
    timings = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert "".join(calls) == "ababab"
    assert all(len(timing.seconds) == 2 for timing in timings.values())


def test_medians_quartiles_ratios():
    timings = {"ours": Timing((1.0, 2.0, 3.0, 4.0, 5.0)), "peer": Timing((6.0, 6.0))}
    assert timings["ours"].median == 3
    assert timings["ours"].quartiles() == (2, 4)
    assert timings["peer"].quartiles() == (6, 6)
    assert rows(timings, "ours", work=3e9)[1] == ["peer", "6.000", "6.000–6.000", "2.00×", "0"]
    assert summary(timings, "ours")["peer"]["ratio_to_ours"] == 2
    assert notes([]) == ""
    assert notes(["x", "y"]) == "Skipped: x; y."


def test_timings_whose_quartiles_are_far_apart_are_named(capsys):
    timings = {"calm": Timing((2.0, 2.5, 3.0)), "torn": Timing((1.5, 2.0, 4.0))}  # quartiles 0.5 and 1.25 apart
    assert (timings["calm"].noisy, timings["torn"].noisy) == (False, True)
    assert Timing((3.0, 4.0, 5.0, 6.0, 7.0)).noisy is False  # at most half is not noisy
    assert [line[2] for line in rows(timings, "calm")] == ["2.250–2.750", "1.750–3.000*"]
    assert [found["noisy"] for found in summary(timings, "calm").values()] == [False, True]
    warn_of_noise(timings)
    warning = capsys.readouterr().err
    assert "torn 1.75–3 s. Repeat on an idle machine." in warning
    assert "calm" not in warning
    warn_of_noise({"calm": timings["calm"]})
    assert capsys.readouterr().err == ""


def test_a_noisy_benchmark_says_so(monkeypatch, capsys):
    torn = Timing((1.0, 2.0, 9.0))
    monkeypatch.setattr(bench_kernels, "interleave", lambda steps, repetitions: dict.fromkeys(steps, torn))
    monkeypatch.setattr(bench_kernels, "gemm_rate", lambda dtype, device, size: 1e9)
    assert cli.main([*SMALL, "--only-ours", "--json"]) == 0
    screen = capsys.readouterr()
    assert json.loads(screen.out)["shapes"][0]["timings"]["inbatch float32"]["noisy"]
    assert "noisy: " in screen.err


def test_peak_bytes_counts_what_is_alive_at_once():
    def run():
        a = torch.ones(1 << 20)
        del a
        return torch.ones(3 << 20)

    assert 12 << 20 <= peak_bytes(run) < 14 << 20


@pytest.mark.parametrize(("rate", "largest"), [(1e9, 1024), (1e10, 2048), (1e12, 4096)])
def test_the_ceiling_is_measured_in_seconds_where_products_are_slow(rate, largest, monkeypatch):
    sizes = []

    def timed(steps, repetitions):
        steps["gemm"]()
        return {"gemm": Timing((2 * sizes[-1] ** 3 / rate,) * repetitions)}

    monkeypatch.setattr("inbatch.experiments.benchmarks.timing.interleave", timed)
    monkeypatch.setattr(torch, "mm", lambda a, b, out: sizes.append(len(a)))
    monkeypatch.setattr(torch, "randn", lambda n, m, device: torch.empty(n, m, device="meta"))
    assert gemm_rate(torch.float32, "cpu", 4096) == pytest.approx(rate)
    assert sizes[-1] == largest
    assert 2 * largest**3 / rate <= 3


def test_the_machine_is_named():
    facts = machine()
    assert facts["torch"] == torch.__version__
    assert facts["processor"]
    assert facts["commit"] == commit()
    assert gemm_rate(torch.float32, "cpu", 64) > 0
