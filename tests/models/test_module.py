from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from modules import QUIET, Recorder, batches, module_of, tiny, train
from torch import nn

from inbatch.errors import UsageError
from inbatch.losses.combine.matryoshka import Matryoshka
from inbatch.losses.combine.weighted import WeightedSum
from inbatch.losses.contrastive.hinge import EnergyHinge
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.module import peak_memory_gib
from inbatch.models.training.optimization import learning_rate_factor, parameter_groups
from inbatch.views import Views


@pytest.mark.parametrize("chunk_tokens", [None, 40])
def test_a_step_embeds_all_views_in_their_roles(chunk_tokens: int | None):
    encoder, objective = tiny(), Recorder()
    module = module_of(encoder, objective, chunk_tokens=chunk_tokens)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    (batch,) = batches(encoder, count=1, negatives=2)
    module.training_step(batch, 0)
    z, tokens, given = objective.seen
    assert [view.view.tolist() for view in tokens] == [[number] * 6 for number in range(4)]
    assert all(view.input_ids is own.input_ids for view, own in zip(tokens, batch))
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


def deepspeed(steps: int, warmup: int, total: int) -> list[float]:
    """DeepSpeed's WarmupDecayLR with its default type: it begins at 0, and step s takes what its iteration s - 1 says."""
    factors = [0.0]
    for iteration in range(steps - 1):
        if iteration < warmup:
            factors.append(math.log(iteration + 1) / math.log(max(2, warmup)))
        else:
            factors.append(max(0.0, (total - iteration) / max(1.0, total - warmup)))
    return factors


@pytest.mark.parametrize(("warmup", "total"), [(431, 8612), (2, 9), (5, 9), (7, 7)])
def test_a_logarithmic_warmup_is_deepspeeds(warmup: int, total: int):
    theirs = deepspeed(total, warmup, total)
    ours = [learning_rate_factor(step, "linear", warmup, total, "logarithmic") for step in range(total)]
    assert ours[: warmup + 1] == pytest.approx(theirs[: warmup + 1], abs=1e-12)
    # After it, their schedule is one step late.
    assert ours[warmup + 1 :] == pytest.approx(theirs[warmup + 2 :] + [ours[-1]] * (total > warmup + 1), abs=1e-12)
    assert all(0 <= factor <= 1 for factor in ours)


def test_ten_steps_of_a_logarithmic_warmup():
    assert learning_rate_factor(10, "linear", 431, 8612, "logarithmic") == pytest.approx(0.38, abs=0.005)
    assert learning_rate_factor(10, "linear", 431, 8612) == pytest.approx(0.023, abs=0.0005)
    assert learning_rate_factor(0, "cosine", 431, 8612, "logarithmic") == 0
    assert learning_rate_factor(431, "cosine", 431, 8612, "logarithmic") == 1


def test_a_run_warms_up_as_it_is_told(tmp_path: Path):
    module = module_of(schedule="constant", warmup_steps=4, warmup="logarithmic")
    logger = CSVLogger(tmp_path, name="", version="")
    train(module, tmp_path, logger=logger, log_every_n_steps=1, max_steps=6)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    rates = [float(row.split(",")[header.split(",").index("train/lr")]) for row in rows]
    assert rates == pytest.approx([0, 0, 0.05, 0.1 * math.log(3) / math.log(4), 0.1, 0.1], abs=1e-9)


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
        ({"warmup_steps": -1}, "or a share below 1; got -1"),
        ({"warmup_steps": 2.5}, "or a share below 1; got 2.5"),
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
        ({"warmup_steps": 0.5}, {"max_steps": -1, "max_epochs": 1}, "is a share of all steps; the run has no end"),
        ({"warmup_steps": 5}, {}, "expected warmup_steps of at most max_steps=4; got 5"),
        ({"optimizer": lambda groups: torch.optim.SGD(groups, lr=-1)}, {}, "the optimizer refuses its settings"),
    ],
)
def test_settings_are_refused_before_the_first_step(
    options: dict[str, Any], trainer: dict[str, Any], sentence: str, tmp_path: Path
):
    with pytest.raises(UsageError, match=sentence):
        train(module_of(**options), tmp_path, **trainer)


def test_a_frozen_model_is_refused():
    module = module_of()
    module.requires_grad_(False)
    with pytest.raises(UsageError, match="nothing is trainable"):
        parameter_groups(module)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma"])
def test_a_cast_of_the_whole_module_keeps_what_networks_compute(kind: Any, tmp_path: Path):
    encoder = Encoder(TinyRandom(kind), pooling="last")
    module = module_of(encoder).to(torch.bfloat16)
    frequencies = {name: b.dtype for name, b in module.named_buffers() if "inv_freq" in name}
    assert frequencies
    assert set(frequencies.values()) == {torch.float32}
    assert next(module.parameters()).dtype == torch.bfloat16
    encoder.eval().save_pretrained(tmp_path / "export")  # reloads, and refuses another embedding


@pytest.mark.parametrize(
    ("objective", "tag"),
    [
        (lambda: InfoNCE(), "rows_without_negatives"),
        (lambda: WeightedSum({"a": InfoNCE(), "b": EnergyHinge()}), "a/rows_without_negatives"),
        (lambda: Matryoshka(InfoNCE(), [8, 32]), "rows_without_negatives"),
    ],
)
def test_rows_without_a_negative_are_counted_and_warned_about_once(
    tmp_path: Path, objective: Any, tag: str, recwarn: pytest.WarningsRecorder
):
    module = module_of(objective=objective())
    loader = batches(module.encoder)
    for number, batch in enumerate(loader.dataset):  # type: ignore[arg-type]
        repeated = torch.tensor([0, 0, 0, 0, 0, 0 if number in (1, 3) else 1])
        batch.ids = Views(repeated, repeated + 10)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = Trainer(**{**QUIET, "logger": logger}, default_root_dir=tmp_path, max_steps=4, log_every_n_steps=1)
    trainer.fit(module, loader)
    header, *rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert [float(row[header.index(f"train/{tag}")]) for row in rows] == [0, 6, 0, 6]
    said = [str(w.message) for w in recwarn if "have no negative" in str(w.message)]
    assert len(said) == 1
    assert "6 of the 6 rows of batch 2 have no negative" in said[0]
    assert f"train/{tag}" in said[0]
