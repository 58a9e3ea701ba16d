"""Turn a recipe into the same composition of tiny random networks and a small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.recipes import EXTENDS, RECIPE, chain

HIDDEN = 32
# What a recipe's text names -> the tiny family that stands in for it.
_FAMILIES = {
    "roberta": "roberta", "opt-": "opt", "phi-2": "phi", "gemma": "gemma", "qwen3": "qwen3", "mistral": "mistral", "llama": "llama",
    "minicpm": "llama", "autoregembed": "llama", "learned": "llama",
}  # fmt: skip
TRAINING = """
trainer: {accelerator: cpu, devices: 1, precision: 32-true, max_steps: 2, log_every_n_steps: 1, enable_progress_bar: false}
model: {warmup_steps: 0}
data: {batch_size: 8, max_length: 16}
evaluators: {}
evaluate_every: null
evaluate_first: false
monitor: null
"""


_KEPT = ("prefix", "lora", "frozen", "dropout", "bidirectional", "eos", "learned_tokens", "gradient_checkpointing")


def tiny_recipe(path: Path, folder: Path) -> list[str]:
    """Write tiny copies of what a recipe stands on, of itself and of data into a folder; return the options that name them."""
    contents = [yaml.safe_load(part.read_text()) for part in chain(path)]
    for content in contents:
        for key in (EXTENDS, RECIPE, "run_dir"):
            content.pop(key, None)
    body = path.read_text().lower().split("\ntrainer")[-1]
    kind = next((kind for word, kind in _FAMILIES.items() if word in body), "bert")
    scored = "score" in str(contents[-1].get("data", {}).get("sources", ""))
    lines = [f"this is text {i},that says {i * i},nothing about {i + 1}" for i in range(24)]
    (folder / "triples.csv").write_text("anchor,positive,negative\n" + "\n".join(lines) + "\n")
    lines = [f"this is text {i},that says {i * i},{i % 5}" for i in range(24)]
    (folder / "scored.csv").write_text("anchor,positive,score\n" + "\n".join(lines) + "\n")
    if "'Reference'" in str(contents):
        Encoder(TinyRandom(kind, seed=7), head=Dense(HIDDEN)).eval().save_pretrained(folder / "reference")
    contents.append(yaml.safe_load(TRAINING))
    contents[-1]["data"]["sources"] = "scored.csv" if scored else "triples.csv"
    if "instruction" in str(contents[-2].get("data", {})):
        columns = {"anchor": "anchor", "positive": "positive", "negatives": ["negative"]}
        contents[-1]["data"] |= {
            "sources": {"path": "triples.csv", "columns": columns, "instruction": "Find it."},
            "max_length": 64,  # of bytes, and the prefix counts
        }
    options = []
    for number, content in enumerate(contents):
        content.get("data", {}).pop("sources", None) if number < len(contents) - 1 else None
        content.get("trainer", {}).pop("max_epochs", None)
        path = folder / f"{number}.yaml"
        path.write_text(yaml.safe_dump(_tiny(content, kind)))
        options += ["--config", str(path)]
    return options


def _tiny(node: Any, kind: str) -> Any:
    if isinstance(node, list):
        return [_tiny(item, kind) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _tiny(value, kind) for key, value in node.items()}
    name = str(node.get("class_path", "")).rpartition(".")[2]
    given = node.get("init_args", {})
    if name == "Pretrained":
        kept = {key: given[key] for key in _KEPT if key in given}
        if "autoregembed" in given["name"]:  # the export of the stage before has its learned tokens
            kept.setdefault("learned_tokens", 5)
        return {"class_path": "TinyRandom", "init_args": {"kind": kind, **kept}}
    if name == "PretrainedDecoder":
        return {"class_path": "TinyDecoder", "init_args": {"kind": kind}}
    if name in ("LatentAttention", "ExportedLatentAttention"):
        return {"class_path": "LatentAttention", "init_args": {"hidden_size": HIDDEN, "latents": 4, "heads": 2}}
    if name == "DistributionAlignment":
        given["reference"] = "scores.safetensors"
    if name in ("PretrainedGenerator", "EncoderGenerator", "PretrainedHead"):
        kept = {key: value for key, value in given.items() if key != "name"}
        tiny = "TinyHead" if name == "PretrainedHead" else "TinyGenerator"
        return {"class_path": tiny, "init_args": {"kind": kind, **kept}}
    if name == "Reference":
        given["name"] = "reference"
    if name == "Matryoshka":
        given["dims"] = [8, HIDDEN]
    if name == "MLMTransform":
        given.pop("name", None)
    if name == "ExportedDense":
        return {"class_path": "ExportedDense", "init_args": {"name": "reference"}}
    if name in ("Dense", "BatchNormProjector", "MLMTransform"):
        given["in_features"] = HIDDEN
    return node
