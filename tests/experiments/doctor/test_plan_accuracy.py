"""Planned against measured: real runs of `inbatch fit`, and what `inbatch doctor` says of them beforehand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fit_helpers import environment, lines_of

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda"]
WIDE = {"hidden_size": 256, "num_layers": 4, "num_heads": 4}


def write(folder: Path, backbone: dict[str, Any], chunk: int | None, rows: int, name: str, accelerator: str) -> Path:
    draws = random.Random(0)
    texts = [" ".join(draws.choices(WORDS, k=draws.randint(2, 24))) for _ in range(6000)]
    pairs = "".join(f"{a},{b}\n" for a, b in zip(texts[::2], texts[1::2]))
    (folder / "pairs.csv").write_text("anchor,positive\n" + pairs)
    run = {
        "trainer": {"max_steps": 3, "accelerator": accelerator, "devices": 1, "log_every_n_steps": 1},
        "model": {
            "encoder": {
                "class_path": "inbatch.models.encoder.Encoder",
                "init_args": {
                    "backbone": {"class_path": f"inbatch.models.backbones.pretrained.{name}", "init_args": backbone},
                    "pooling": "last" if backbone.get("kind") == "llama" else "mean",
                },
            },
            "objective": {"class_path": "inbatch.losses.contrastive.infonce.InfoNCE"},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
            "chunk_tokens": chunk,
        },
        "data": {"sources": "pairs.csv", "batch_size": rows, "max_length": 64},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    return folder / "run.yaml"


def call(folder: Path, *arguments: str) -> str:
    # The shell between: Linux counts what the parent was as the peak of the process that it starts.
    shell = ["sh", "-c", '"$@"; exit $?', "sh", str(Path(sys.executable).with_name("inbatch")), *arguments]
    found = subprocess.run(shell, cwd=folder, env=environment(), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def ratio(folder: Path, *run: Any) -> float:
    """Return the planned total over the measured peak."""
    write(folder, *run)
    planned = json.loads(call(folder, "doctor", "--config", "run.yaml", "--json"))["bytes"]["total"]
    call(folder, "fit", "--config", "run.yaml", "--run_dir", "run")
    return planned / 2**30 / max(line["perf/peak_mem_gib"] for line in lines_of(folder / "run" / "metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("backbone", "chunk", "rows", "name"),
    [
        pytest.param(WIDE, 8192, 256, "TinyRandom", id="bert"),
        pytest.param({**WIDE, "gradient_checkpointing": True}, 8192, 256, "TinyRandom", id="checkpointed"),
        pytest.param({**WIDE, "kind": "llama", "lora": {"rank": 8}}, 4096, 256, "TinyRandom", id="llama-lora"),
        pytest.param({"name": "minilm"}, 4096, 256, "Pretrained", id="minilm"),
        pytest.param(WIDE, 1024, 1024, "TinyRandom", id="many-chunks"),
    ],
)
def test_plan_is_within_fifteen_percent(tmp_path: Path, backbone: dict, chunk: int, rows: int, name: str):
    assert ratio(tmp_path, backbone, chunk, rows, name, "cpu") == pytest.approx(1, abs=0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.timeout(900)
def test_plan_of_a_gpu_is_within_fifteen_percent(tmp_path: Path):
    assert ratio(tmp_path, WIDE, 8192, 1024, "TinyRandom", "gpu") == pytest.approx(1, abs=0.15)
