from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inbatch.data.datamodule import EmbeddingDataModule
from inbatch.errors import UsageError
from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.hinge import EnergyHinge
from inbatch.losses.infonce import InfoNCE
from inbatch.losses.weighted import WeightedSum
from inbatch.models.backbones import TinyRandom
from inbatch.models.correction import TemplateBias
from inbatch.models.encoder import Encoder
from inbatch.models.heads import Dense
from inbatch.models.module import EmbeddingModule, learning_rate_factor, parameter_groups, peak_memory_gib
from inbatch.models.projectors import BatchNormProjector
from inbatch.templates import parse
from inbatch.tokens import tokenize
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


def train(module: EmbeddingModule, folder: Path, **options: Any) -> Trainer:
    options = {**QUIET, "default_root_dir": folder, "max_steps": 4, **options}
    trainer = Trainer(**options)
    trainer.fit(module, batches(module.encoder))
    return trainer


class Recorder(Objective):
    """Notes what a module passes to its objective."""

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        self.seen = z, tokens, encoder
        return LossOutput(sum(view.sum() for view in z), {"number": torch.tensor(2.0)})  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk_tokens", [None, 40])
def test_a_step_embeds_all_views_in_their_roles(chunk_tokens: int | None):
    encoder, objective = tiny(), Recorder()
    module = module_of(encoder, objective, chunk_tokens=chunk_tokens)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    (batch,) = batches(encoder, count=1, negatives=2)
    module.training_step(batch, 0)
    z, tokens, given = objective.seen
    assert tokens is batch
    assert given is encoder
    assert len(z) == 4
    for view, embedded in zip(batch, z):
        torch.testing.assert_close(embedded, encoder(view), atol=1e-6, rtol=1e-6)
    assert module._pending[0]["negatives_per_anchor"] == 6 * 3 - 1


def test_chunks_change_no_weight(tmp_path: Path):
    ends = []
    for chunk_tokens in (None, 30):
        module = module_of(chunk_tokens=chunk_tokens)
        train(module, tmp_path)
        ends.append(module.state_dict())
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], atol=1e-6, rtol=1e-5)


def test_draws_depend_on_seed_and_batch_alone(tmp_path: Path):
    def loss(seed: int, disturb: bool) -> float:
        module = module_of(tiny(dropout=0.5), seed=seed)
        torch.manual_seed(int(disturb))
        train(module, tmp_path)
        return module.mean_loss

    assert loss(0, disturb=False) == loss(0, disturb=True)
    assert loss(0, disturb=False) != loss(1, disturb=False)


def test_numbers_reach_any_logger_by_optimizer_step(tmp_path: Path):
    module = module_of(objective=InfoNCE(learn_temperature=True), schedule="linear", warmup_steps=1)
    logger = CSVLogger(tmp_path, name="", version="")
    train(module, tmp_path, logger=logger, log_every_n_steps=2)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    columns = header.split(",")
    steps = [int(row.split(",")[columns.index("step")]) for row in rows]
    assert steps == [1, 2, 4]
    rates = [float(row.split(",")[columns.index("train/lr")]) for row in rows]
    assert rates == pytest.approx([0.0, 0.1, 0.1 / 3])
    assert {"train/loss", "train/temperature", "train/samples_seen", "train/negatives_per_anchor"} <= set(columns)
    assert {"perf/sentences_per_s", "perf/peak_mem_gib"} <= set(columns)
    assert module.samples_seen == 24


def test_accumulation_averages_the_numbers_and_warns(tmp_path: Path):
    module = module_of()
    with pytest.warns(UserWarning, match="adds no in-batch negatives.*model.chunk_tokens"):
        train(module, tmp_path, max_steps=2, accumulate_grad_batches=2)
    assert module.metrics["train/samples_seen"] == 24
    assert module.metrics["train/negatives_per_anchor"] == 5


def test_what_decides_the_next_draws_is_in_the_checkpoint(tmp_path: Path):
    module = module_of()
    trainer = train(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
    again = module_of()
    again.on_load_checkpoint(saved)
    assert (again.batches_seen, again.samples_seen) == (4, 24)
    assert "hyper_parameters" not in saved  # they could overrule what is typed


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 2, [0, 0.5, 1, 1, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25, 0]),
        ("linear", 2, [0, 0.5, 1, 0.5, 0]),
        ("cosine", 0, [1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4, 0]),
        ("cosine", 2, [0, 0.5, 1, 0.5, 0]),
    ],
)
def test_schedules(schedule: Any, warmup: int, expected: list[float]):
    factors = [learning_rate_factor(step, schedule, warmup, 4) for step in range(5)]
    assert factors == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["constant_with_warmup", "linear", "cosine"])
def test_schedules_equal_those_of_transformers(name: str):
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=17)
    schedule: Any = name.partition("_")[0]
    for step in range(18):
        assert theirs.get_last_lr()[0] == pytest.approx(learning_rate_factor(step, schedule, 3, 17), abs=1e-12)
        optimizer.step()
        theirs.step()


def test_vectors_and_scalars_have_no_weight_decay():
    module = module_of(objective=InfoNCE(learn_temperature=True))
    matrices, others = parameter_groups(module)
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert "weight_decay" not in matrices
    assert others["weight_decay"] == 0
    names = {id(p): name for name, p in module.named_parameters()}
    assert "objective.log_scale" in {names[id(p)] for p in others["params"]}
    (everything,) = parameter_groups(module, decay_all=True)
    assert len(everything["params"]) == len(matrices["params"]) + len(others["params"]) == len(names)


def test_peak_memory_is_a_plausible_size():
    assert 0.05 < peak_memory_gib(torch.device("cpu")) < 1000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"warmup_steps": -1}, "expected warmup_steps >= 0; got -1"),
        ({"chunk_tokens": 0}, "expected chunk_tokens >= 1 or null; got 0"),
    ],
)
def test_settings_are_refused_at_construction(options: dict[str, Any], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        module_of(**options)


@pytest.mark.parametrize(
    ("options", "trainer", "sentence"),
    [
        ({"schedule": "linear"}, {"max_steps": -1, "max_epochs": 1}, "the linear schedule needs an end"),
        ({"warmup_steps": 5}, {}, "expected warmup_steps of at most max_steps=4; got 5"),
        ({"optimizer": lambda groups: torch.optim.SGD(groups, lr=-1)}, {}, "the optimizer refuses its settings"),
    ],
)
def test_settings_are_refused_before_the_first_step(
    options: dict[str, Any], trainer: dict[str, Any], sentence: str, tmp_path: Path
):
    with pytest.raises(UsageError, match=sentence):
        train(module_of(**options), tmp_path, **trainer)


PROMPTS = {"query": "{text} is {mask}", "document": "{mask}: {text}"}


def prompted(**options: Any) -> Encoder:
    backbone = TinyRandom(num_layers=1, dropout=0.0)
    return Encoder(backbone, "mask", prompts=PROMPTS, correction=TemplateBias(**options), default_prompt="query")


def test_a_projector_may_judge_checkpoints_and_never_becomes_the_encoders():
    encoder = Encoder(TinyRandom(num_layers=1, dropout=0.0), normalize=False)
    module = module_of(encoder, InfoNCE(projector=Dense(32)), projector_at_dev=True)
    texts = ["one text", "another"]
    plain = encoder.encode(texts)
    with module.at_dev() as judged:
        torch.testing.assert_close(judged.encode(texts), module.objective.projector(plain))
    with pytest.raises(ZeroDivisionError), module.at_dev():
        _ = 1 / 0
    assert encoder.head is None
    assert torch.equal(encoder.encode(texts), plain)


@pytest.mark.parametrize("at_test", [False, True])
@pytest.mark.parametrize("at_dev", [False, True])
def test_a_template_bias_may_be_subtracted_for_the_choice_of_checkpoints_alone(at_test: bool, at_dev: bool):
    module = module_of(prompted(template_bias_at_test=at_test), template_bias_at_dev=at_dev)
    reference = prompted(template_bias_at_test=at_test or at_dev)
    texts = ["one text", "another"]
    with module.at_dev() as encoder:
        assert torch.equal(encoder.encode(texts), reference.encode(texts))
    assert torch.equal(module.encoder.encode(texts), prompted(template_bias_at_test=at_test).encode(texts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projector_at_dev": True}, "an objective with a projector and an encoder without a head"),
        ({"template_bias_at_dev": True}, "an encoder with a correction; it has none"),
    ],
)
def test_switches_without_what_they_switch_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        module_of(**options)


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
    module_of(encoder).check(EmbeddingDataModule(str(path), 4, max_length=32 - taken), 1)
    with pytest.raises(UsageError, match=rf"got 33 \({taken} of them are the template's\). Set data.max_length"):
        module_of(encoder).check(EmbeddingDataModule(str(path), 4, max_length=33 - taken), 1)


def test_an_objective_refuses_data_that_it_cannot_use_before_the_first_step(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text("anchor,positive\n" + "".join(f"a{i},b{i}\n" for i in range(8)))
    trainer = Trainer(max_steps=1, **QUIET)
    with pytest.raises(UsageError, match="EnergyHinge expects a hard negative in every row; the data has none"):
        trainer.fit(module_of(objective=EnergyHinge()), EmbeddingDataModule(str(path), 4))


def test_a_frozen_model_is_refused():
    module = module_of()
    module.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing is trainable"):
        parameter_groups(module)
