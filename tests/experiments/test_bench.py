"""The benchmarks: the gate comes first and can be red, the numbers come out whole, bad options are refused."""

import json

import pytest
import torch

from inbatch import cli
from inbatch.errors import InbatchError
from inbatch.experiments import bench_kernels, bench_train
from inbatch.experiments.timing import Timing, gemm_rate, interleave, machine, notes, peak_bytes, rows, summary


def test_kernels_reports_ours_and_peers(capsys):
    assert cli.main(["bench", "kernels", "--rows", "64", "--dim", "8", "--repetitions", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"inbatch float32", "inbatch bfloat16", "autograd cross_entropy"} <= set(result["timings"])
    assert result["timings"]["inbatch float32"]["ratio_to_ours"] == 1
    assert all(error < 2e-2 for error in result["gate"].values())
    assert set(result["bytes_beyond_inputs_and_gradients"]) == set(result["timings"])


def test_only_ours_skips_the_peers(capsys):
    assert cli.main(["bench", "kernels", "--rows", "32", "--dim", "4", "--repetitions", "1", "--only-ours"]) == 0
    out = capsys.readouterr().out
    assert "gate: inbatch float32" in out
    assert "cross_entropy" not in out


@pytest.mark.parametrize("name", ["_ours", "_symmetric", "_native"])
def test_a_wrong_gradient_stops_the_benchmark(name, monkeypatch, capsys):
    def wrong(q, k, scale):
        return 1.1 * bench_kernels._naive(q, k, scale)

    monkeypatch.setattr(bench_kernels, name, (lambda options: wrong) if name == "_native" else wrong)
    assert cli.main(["bench", "kernels", "--rows", "32", "--dim", "4"]) == 1
    assert "the gate is red" in capsys.readouterr().err


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
        "inbatch.data.environment.environment_pairs", lambda split: {"anchor": ["a"], "positive": ["b"]}
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


def test_peak_bytes_counts_what_is_alive_at_once():
    def run():
        a = torch.ones(1 << 20)
        del a
        return torch.ones(3 << 20)

    assert 12 << 20 <= peak_bytes(run) < 14 << 20


def test_the_machine_is_named():
    facts = machine()
    assert facts["torch"] == torch.__version__
    assert facts["processor"]
    assert gemm_rate(torch.float32, "cpu", 64) > 0
