"""In half precision as a whole, single numbers and what an objective holds itself keep their dtype, through checkpoints too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from modules import QUIET, batches, module_of, train
from torch import nn

from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.heads.dense import Dense


class Classes(Objective):
    """Holds what custom objectives hold: a constant a class, a decay, a counter, a scale of shape (1,), and a network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("decay", torch.tensor(0.9999))
        self.register_buffer("seen", torch.tensor(3))
        self.scale = nn.Parameter(torch.tensor([1.003]))
        self.network = nn.Linear(4, 4)

    def forward(self, z, tokens, encoder):
        return LossOutput(z.anchor.sum() * self.scale.sum() * self.decay)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("objective", "kept"),
    [
        (lambda: InfoNCE(0.07, learn_temperature=True, projector=Dense(32)), {"log_scale": torch.float32}),
        (lambda: Matryoshka(InfoNCE(0.07, learn_temperature=True), [16]), {"objective.log_scale": torch.float32}),
        (
            lambda: WeightedSum({"a": InfoNCE(0.07, learn_temperature=True), "b": Classes()}),
            {"terms.a.log_scale": torch.float32, "terms.b.weight": torch.float32},
        ),
        (
            Classes,
            {
                **dict.fromkeys(("weight", "decay", "scale"), torch.float32),
                "seen": torch.int64,
                "network.weight": None,
                "network.bias": None,
            },
        ),
    ],
    ids=["temperature", "matryoshka", "sum", "custom"],
)
def test_what_an_objective_holds_keeps_its_dtype_and_its_value(dtype, objective, kept):
    module = module_of(objective=objective())
    before = {name: tensor.clone() for name, tensor in module.objective.state_dict().items()}
    parameters = dict(module.named_parameters())
    module.to(dtype)
    found = module.objective.state_dict()
    for name, expected in kept.items():
        assert found[name].dtype == (expected or dtype), name
        if expected:
            assert found[name].equal(before[name])
    assert {p.dtype for p in module.encoder.parameters()} == {dtype}
    assert all(parameters[name] is p for name, p in module.named_parameters())


def test_a_networks_own_scale_is_kept_and_its_vectors_are_not():
    module = module_of()
    module.encoder.backbone.network.register_parameter("gate", nn.Parameter(torch.tensor(0.1)))
    module.encoder.backbone.network.register_buffer("level", torch.tensor(0.3))
    module.encoder.backbone.network.register_parameter("bias", nn.Parameter(torch.tensor([0.1])))
    module.to(dtype=torch.bfloat16)
    network = module.encoder.backbone.network
    assert (network.gate.dtype, network.level.dtype) == (torch.float32, torch.float32)
    assert network.bias.dtype == torch.bfloat16


def test_a_learnt_temperature_moves_by_small_steps_and_outlives_a_checkpoint(tmp_path: Path):
    def made():
        return module_of(
            objective=InfoNCE(0.05, learn_temperature=True),
            optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-4),
        )

    module = made()
    start = module.objective.log_scale.item()
    trainer = train(module, tmp_path, precision="bf16-true")
    moved = module.objective.log_scale.item()
    # Four steps of AdamW at 1e-4; between two numbers of bfloat16 around 3 lie 0.016.
    assert 1e-5 < abs(moved - start) <= 4.1e-4
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert saved["state_dict"]["objective.log_scale"].item() == moved
    states = saved["optimizer_states"][0]["state"].values()
    assert {state["exp_avg"].dtype for state in states if state["exp_avg"].ndim == 0} == {torch.float32}
    again = made()
    trainer = Trainer(**QUIET, default_root_dir=tmp_path, max_steps=5, precision="bf16-true")
    trainer.fit(again, batches(again.encoder), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    scale = again.objective.log_scale
    assert scale.dtype == torch.float32
    assert 0 < abs(scale.item() - moved) <= 1.1e-4
    assert {p.dtype for p in again.encoder.parameters()} == {torch.bfloat16}
