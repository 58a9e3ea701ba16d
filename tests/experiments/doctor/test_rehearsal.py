"""Small steps of a run: their tensors are counted in this process, the heap's growth in another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fit_helpers import write_run

from inbatch.errors import InbatchError
from inbatch.experiments.doctor.rehearsal import Scene, choose, heap, held, largest_chunk, sample
from inbatch.run.options import FitCLI
from inbatch.views import TokenBatch, Views


def texts(*lengths: int) -> Views[TokenBatch]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    view = TokenBatch(mask * 100, mask)
    ids = torch.arange(len(lengths))
    return Views(view, view, score=torch.ones(len(lengths)), ids=Views(ids, ids), instructions=ids)


def test_a_batch_has_the_longest_row_and_may_repeat():
    views = texts(3, 9, 4, 5)
    for seed in range(5):
        chosen = choose(views, 2, seed)
        assert chosen.anchor.lengths[0] == 9
        assert len(chosen.anchor) == len(chosen.positive) == len(chosen.score) == len(chosen.ids.anchor) == 2
        assert torch.equal(chosen.instructions, chosen.ids.anchor)
    assert len(choose(views, 11, 0).anchor) == 11


def test_largest_chunk():
    views = texts(3, 9, 4, 5)
    assert largest_chunk(views, None) == 8 * 9
    assert largest_chunk(views, 20) == 20  # 2 of 9, then 4 of 5 and less
    assert largest_chunk(views, 4) == 9  # a row at least


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--config", str(write_run(tmp_path)), "--model.schedule=linear", "--model.warmup_steps=9"]


def test_tensors_of_small_steps(run: list[str], tmp_path: Path):
    cli = FitCLI(run)
    cli.build()
    views = sample(cli.datamodule, cli.model.encoder)
    small, large = (held(cli, views, Scene(rows, None)) for rows in (4, 16))
    assert (small.texts, small.tokens) == (8, largest_chunk(choose(views, 4, 0), None))
    trainable = sum(p.nbytes for p in cli.model.parameters() if p.requires_grad)
    assert small.update >= 3 * trainable, "gradients and AdamW's two moments"
    # At least the inputs of a layer's six products, h and h and 4·h and so on of float32.
    assert large.passes - small.passes > (large.tokens - small.tokens) * 4 * 32 * 5
    chunked = held(cli, views, Scene(16, 64))
    assert chunked.passes < large.passes
    assert held(cli, views, Scene(16, 64)).passes == pytest.approx(chunked.passes, rel=0.02)
    assert all(p.grad is None for p in cli.model.parameters())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.csv", "tiny.yaml"]


def test_gradients_that_accumulate_are_there_in_the_passes(run: list[str]):
    peaks = []
    for batches in (1, 3):
        cli = FitCLI([*run, f"--trainer.accumulate_grad_batches={batches}"])
        cli.build()
        peaks.append(held(cli, sample(cli.datamodule, cli.model.encoder), Scene(64, 256)).passes)
    trainable = sum(p.nbytes for p in cli.model.parameters() if p.requires_grad)
    assert peaks[1] - peaks[0] > 0.9 * trainable, "the largest chunk runs backward with gradients already there"


def test_heap_of_a_process(run: list[str], capfd: pytest.CaptureFixture[str]):
    program, start, peak = heap(run, Scene(16, 128))
    assert 100 << 20 < program <= start
    assert program < peak < program + (200 << 20)
    assert capfd.readouterr().out == "", "stdout is the plan's"


def test_a_failed_rehearsal_says_why(run: list[str]):
    with pytest.raises(InbatchError, match="rehearsal of 4 rows failed: UsageError: .*nosuch"):
        heap([*run, "--model.nosuch=1"], Scene(4, None))
