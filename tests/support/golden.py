"""Loss curves of recipes on tiny networks, the same on every machine; run as a program, it writes them anew.

Weights come from a NumPy generator and everything runs in float64 on one thread. Only dropout and the masks of tokens are drawn
by torch's CPU generator, whose stream is checked by itself.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fit_helpers import lines_of
from lightning.pytorch import Callback
from tiny_recipes import tiny_recipe

from inbatch.cli import main
from inbatch.recipes import packaged

CURVES = Path(__file__).parents[1] / "experiments" / "golden.json"
RECIPES = [
    "simcse/unsup-bert-base", "simcse/sup-roberta-base", "simcse/unsup-roberta-base-mlm", "diffcse/bert-base-sts",
    "diffcse/roberta-base-sts", "promptbert/unsup-bert-base", "promptbert/unsup-roberta-base", "promptbert/sup-bert-base",
    "promcse/unsup-bert-base", "promcse/unsup-roberta-base", "promcse/sup-bert-base-eh", "gcse/bert-base", "gcse/roberta-base",
]  # fmt: skip
STEPS = 20


class NumpyWeights(Callback):
    """Draw every weight of the run from a NumPy generator."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        rng = np.random.default_rng(0)
        with torch.no_grad():
            for name, parameter in sorted(pl_module.named_parameters()):
                drawn = torch.from_numpy(rng.normal(0, 0.2, tuple(parameter.shape)))
                norm = parameter.ndim == 1 and name.endswith("weight")
                parameter.copy_(1 + drawn / 4 if norm else drawn)


def draws() -> list[float]:
    """The first draws of torch's CPU generator, as dropout and the masking of tokens take them."""
    torch.manual_seed(7)
    kept = torch.nn.functional.dropout(torch.ones(8, dtype=torch.float64), 0.1)
    return [
        *torch.rand(4, dtype=torch.float64).tolist(),
        *torch.rand(4).tolist(),
        *kept.tolist(),
        *torch.randint(99, (4,)).tolist(),
    ]


def curve(recipe: str, folder: Path) -> list[float]:
    """Train a recipe's tiny copy in ``folder``, which is the working folder, and return the losses."""
    options = tiny_recipe(packaged() / f"{recipe}.yaml", folder)
    (folder / "golden.yaml").write_text(
        f"trainer: {{precision: 64-true, max_steps: {STEPS}, callbacks: [{{class_path: golden.NumpyWeights}}]}}\n"
        "model: {schedule_steps: 40}\n"
    )
    own = ["--model.optimizer.init_args.lr=0.003", "--run_dir", "run"]  # of the optimizer that the recipe names
    code = main(["fit", *options, "--config", "golden.yaml", *own])
    assert code == 0, f"{recipe} ended with {code}"
    return [line["train/loss"] for line in lines_of(folder / "run" / "metrics.jsonl") if "train/loss" in line]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found: dict[str, Any] = {"draws": draws()}
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            found[recipe] = curve(recipe, Path(folder))
        print(recipe, found[recipe][0], found[recipe][-1], file=sys.stderr)
    CURVES.write_text(json.dumps(found, indent=1) + "\n")
