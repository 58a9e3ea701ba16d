from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import torch.distributed as dist

from inbatch.callbacks.ranks import highest, leave, on_rank_zero
from inbatch.callbacks.signals import Stopped
from inbatch.errors import InbatchError


def fail() -> None:
    raise ValueError("broken")


def stop() -> None:
    raise Stopped(15, 3)


def member(rank: int, port: int, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found: list[Any] = [on_rank_zero(lambda: {"from": rank}), highest(15 if rank == 1 else 0)]
    try:
        on_rank_zero(fail)
    except (ValueError, InbatchError) as error:
        found.append(f"{type(error).__name__}: {error}")
    try:
        on_rank_zero(stop)
    except Stopped as error:
        found.append((error.signum, error.step, error.exit_code))
    leave()
    results.put((rank, found))


def test_every_rank_gets_what_rank_0_did_or_why_it_failed(free_port: int):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    members = [context.Process(target=member, args=(rank, free_port, results)) for rank in range(2)]
    for process in members:
        process.start()
    found = dict(results.get(timeout=60) for _ in members)
    for process in members:
        process.join(60)
        assert process.exitcode == 0
    assert found[0] == [{"from": 0}, 15, "ValueError: broken", (15, 3, 75)]
    assert found[1] == [{"from": 0}, 15, "InbatchError: rank 0 failed: ValueError: broken", (15, 3, 75)]


def test_a_single_process_needs_no_group():
    assert on_rank_zero(lambda: 3) == 3
    assert highest(2) == 2
    leave()
    with pytest.raises(ValueError, match="broken"):
        on_rank_zero(fail)
