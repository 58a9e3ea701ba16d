"""Ranks on machines of different kinds compute in the precision of rank 0's."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision

from inbatch.callbacks.precision import AgreedPrecision
from inbatch.callbacks.ranks import leave
from inbatch.errors import UsageError


def trainer(plugin: Precision) -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(precision_plugin=plugin, root_device=torch.device("cpu")))


def plugin(name: str) -> Precision:
    kinds = {"32-true": Precision, "64-true": DoublePrecision}
    if name == "bf16-true":
        return HalfPrecision("bf16-true")
    return kinds[name]() if name in kinds else MixedPrecision("bf16-mixed", "cpu")


def member(rank: int, port: int, names: tuple[str, str], results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    built = trainer(plugin(names[rank]))
    try:
        AgreedPrecision().setup(built, None, "fit")  # type: ignore[arg-type]
        with built.strategy.precision_plugin.forward_context():
            dtype = torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
        found = (built.strategy.precision_plugin.precision, dtype)
    except UsageError as error:
        found = (str(error), None)
    leave()
    results.put((rank, found))


def outcomes(names: tuple[str, str], port: int) -> list[Any]:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    members = [context.Process(target=member, args=(rank, port, names, results)) for rank in range(2)]
    for process in members:
        process.start()
    found = dict(results.get(timeout=60) for _ in members)
    for process in members:
        process.join(60)
    return [found[0], found[1]]


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (("32-true", "bf16-mixed"), torch.float32),
        (("bf16-mixed", "32-true"), torch.bfloat16),
        (("32-true", "32-true"), torch.float32),
    ],
    ids=str,
)
def test_rank_0_decides(names: tuple[str, str], dtype: torch.dtype, free_port: int):
    assert outcomes(names, free_port) == [(names[0], dtype)] * 2


def test_what_cannot_be_exchanged_is_refused(free_port: int):
    first, second = outcomes(("32-true", "bf16-true"), free_port)
    assert first[0] == "32-true"
    assert "rank 0 takes 32-true here and another rank bf16-true. Set --trainer.precision" in second[0]


def test_a_single_process_keeps_its_own():
    built = trainer(plugin("bf16-mixed"))
    before = built.strategy.precision_plugin
    AgreedPrecision().setup(built, None, "fit")  # type: ignore[arg-type]
    assert built.strategy.precision_plugin is before
