"""Tiny modules, their batches and a trainer, for tests of the Lightning module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import EmbeddingModule
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "enable_checkpointing": False,
}  # fmt: skip


def tiny(dropout: float = 0.0) -> Encoder:
    return Encoder(TinyRandom(num_layers=1, dropout=dropout))


def module_of(encoder: Encoder | None = None, objective: Objective | None = None, **options: Any) -> EmbeddingModule:
    options.setdefault("optimizer", lambda groups: torch.optim.SGD(groups, lr=0.1))
    return EmbeddingModule(encoder or tiny(), objective or InfoNCE(), **options)


def batches(encoder: Encoder, count: int = 4, rows: int = 6, negatives: int = 0) -> DataLoader[Any]:
    def views(start: int) -> Views[TokenBatch]:
        texts = [[f"{role} {'long ' * i}{start + i}" for i in range(rows)] for role in range(2 + negatives)]
        anchor, positive, *rest = (tokenize(encoder.tokenizer, role) for role in texts)
        return Views(anchor, positive, tuple(rest))

    made = [views(10 * i) for i in range(count)]
    return DataLoader(made, batch_size=None)  # type: ignore[arg-type]


def train(module: EmbeddingModule, folder: Path, data: Any = None, **options: Any) -> Trainer:
    options = {**QUIET, "default_root_dir": folder, "max_steps": 4, **options}
    trainer = Trainer(**options)
    trainer.fit(module, batches(module.encoder) if data is None else data)
    return trainer


class Recorder(Objective):
    """Notes what a module passes to its objective."""

    in_batch = True

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        self.seen = z, tokens, encoder
        return LossOutput(sum(view.sum() for view in z), {"number": torch.tensor(2.0)})  # type: ignore[arg-type]


def gradients(backbone, tokens):
    """Return the gradients of a fixed function of the states, by parameter, in training mode without dropout."""
    last = backbone(tokens).last
    (last * torch.linspace(-1, 1, last.shape[-1])).masked_fill(
        tokens.attention_mask[..., None] == 0, 0
    ).sum().backward()
    return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
