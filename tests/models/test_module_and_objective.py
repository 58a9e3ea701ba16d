"""What the module does for objectives: switches at dev, checks of data and widths, the step and the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from modules import QUIET, Recorder, module_of, train
from torch import Tensor, nn

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.errors import UsageError
from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.dense import Dense
from inbatch.models.heads.projectors import BatchNormProjector
from inbatch.models.heads.template_bias import TemplateBias
from inbatch.text.templates import parse
from inbatch.text.tokens import tokenize
from inbatch.views import TokenBatch, Views

PROMPTS = {"query": "{text} is {mask}", "document": "{mask}: {text}"}


def prompted(**options: Any) -> Encoder:
    backbone = TinyRandom(num_layers=1, dropout=0.0)
    return Encoder(backbone, "mask", prompts=PROMPTS, correction=TemplateBias(**options), default_prompt="query")


def test_a_schedule_may_end_elsewhere_than_the_run(tmp_path: Path):
    module = module_of(schedule="linear", schedule_steps=8)
    train(module, tmp_path)
    assert module.metrics["train/lr"] == pytest.approx(0.1 * (1 - 3 / 8))  # of the fourth step


class Meeting(Recorder):
    """Notes when it meets the encoder, and which step it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[Any] = []
        self.steps: list[int] = []

    def attach(self, encoder: Any) -> None:
        self.met.append(encoder)

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        self.steps.append(self.step)
        return super().forward(z, tokens, encoder)


def test_every_objective_meets_the_encoder_and_knows_step_and_budget(tmp_path: Path):
    inner = Meeting()
    module = module_of(objective=WeightedSum({"inner": inner}), chunk_tokens=50)
    assert inner.met == [module.encoder]
    assert inner.chunk_tokens == 50
    train(module, tmp_path, accumulate_grad_batches=2, max_steps=2)
    assert inner.steps == [0, 0, 1, 1]


def test_a_projector_of_another_width_is_refused():
    wrong: list[Objective] = [
        InfoNCE(projector=Dense(16)),
        WeightedSum({"a": InfoNCE(projector=Dense(16))}),
        WeightedSum({"a": InfoNCE()}, projector=BatchNormProjector(16)),
    ]
    for objective in wrong:
        with pytest.raises(UsageError, match="in_features=32, the embedding's size; got 16. Set objective.projector's"):
            module_of(objective=objective)
    module_of(objective=WeightedSum({"a": InfoNCE(projector=Dense(16))}, projector=Dense(32, 16)))


@pytest.mark.parametrize("prompts", [{"query": "find {text}"}, {"query": "find {text} {mask}", "document": "a {text}"}])
def test_one_side_may_stand_in_a_template(prompts: dict[str, str]):
    encoder = Encoder(TinyRandom(num_layers=1, dropout=0.0), prompts=prompts)
    module = module_of(encoder, Recorder())
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    texts = ["one", "two of them"]
    sides = [tokenize(encoder.tokenizer, texts, 20, encoder.prompts[side]) for side in ("query", "document")]
    module.training_step(Views(*sides), 0)
    for side, embedded in zip(sides, module.objective.seen[0]):
        torch.testing.assert_close(embedded, encoder(side))


def test_a_text_and_its_template_must_fit(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive\n" + "".join(f"a{i},b{i}\n" for i in range(8)))
    encoder = Encoder(TinyRandom(max_length=32), prompts={"query": "it says {text}"})
    taken = len(parse(encoder.tokenizer, "it says {text}"))
    module_of(encoder).check(EmbeddingDataModule(str(path), 4, max_length=32 - taken), 1, "32-true")
    with pytest.raises(UsageError, match=rf"got 33 \({taken} of them are the template's\). Set data.max_length"):
        module_of(encoder).check(EmbeddingDataModule(str(path), 4, max_length=33 - taken), 1, "32-true")


def test_an_objective_refuses_data_that_it_cannot_use_before_the_first_step(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive\n" + "".join(f"a{i},b{i}\n" for i in range(8)))
    trainer = Trainer(max_steps=1, **QUIET)
    with pytest.raises(UsageError, match="EnergyHinge expects a hard negative in every row; the data has none"):
        trainer.fit(module_of(objective=EnergyHinge()), EmbeddingDataModule(str(path), 4))
