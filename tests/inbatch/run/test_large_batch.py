"""What large batches promise on a CPU: adapters against 16,384 negatives in little memory, and little padding in their chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fit_helpers import complete, lines_of, write_run

from inbatch.data.batches.sampler import Draw
from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.data.sources.environment import environment_pairs
from inbatch.kernels.caching import padding_share
from inbatch.models.backbones.pretrained import Pretrained, TinyRandom
from inbatch.models.encoder import Encoder

NEGATIVES = 16_384


def test_a_lora_run_of_a_llama_against_16384_negatives_needs_less_than_4_gb(tmp_path: Path):
    write_run(tmp_path)
    rows = [f"{i} what?,number {i}" for i in range(NEGATIVES + 1)]
    (tmp_path / "pairs.csv").write_text("anchor,positive\n" + "\n".join(rows) + "\n")
    done = complete(
        tmp_path,
        "--run_dir=run",
        "--model.encoder.init_args.backbone.init_args={kind: llama, num_layers: 2, lora: {rank: 8}}",
        "--model.encoder.init_args.pooling=last",
        f"--data.batch_size={NEGATIVES + 1}",
        "--data.max_length=16",
        "--model.chunk_tokens=16384",
        "--model.warmup_steps=0",
        "--trainer.max_steps=2",
    )
    assert done.returncode == 0, done.stderr
    assert f"{NEGATIVES:,} an anchor" in done.stdout
    steps = [line for line in lines_of(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert [line["train/negatives_per_anchor"] for line in steps] == [NEGATIVES, NEGATIVES]
    assert max(line["perf/peak_mem_gib"] for line in steps) * 2**30 < 4e9


@pytest.fixture(scope="module")
def corpus() -> None:
    """The pairs of this machine's packages; read once and cached."""
    environment_pairs("train", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1024, 2048])
@pytest.mark.parametrize("length", [64, 256])
@pytest.mark.parametrize("tokenizer", ["bytes", "words"])
def test_less_than_a_tenth_of_the_tokens_computed_are_padding(corpus, tokenizer: str, length: int, rows: int):
    encoder = Encoder(TinyRandom("llama") if tokenizer == "bytes" else Pretrained("minilm", layers=1))
    data = EmbeddingDataModule("environment", batch_size=rows, max_length=length)
    views = data.collate(encoder)(data.dataset()[Draw(0, data.order.batch(0).tolist())])
    lengths = torch.cat([view.lengths for view in views])
    for budget in (4096, 16384, 65536):
        assert padding_share(lengths, budget) < 0.1
