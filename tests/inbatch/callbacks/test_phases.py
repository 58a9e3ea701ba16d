"""Marks in a profile that tell the optimizer's step from what comes before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from inbatch.callbacks.phases import FORWARD, UPDATE, Phases


def test_each_phase_leaves_its_mark_in_order():
    phases = Phases()
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(2):
            phases.on_train_batch_start(trainer)
            phases.on_before_optimizer_step(trainer)
        phases.on_train_end(trainer)
    events = sorted(profile.events(), key=lambda event: event.time_range.start)  # type: ignore[arg-type]
    marks = [event.name for event in events if event.name in (FORWARD, UPDATE)]
    assert marks == [FORWARD, UPDATE, FORWARD, UPDATE, FORWARD]
    assert phases.device == torch.device("cpu")
    assert phases.peaks == [0, 0]  # read off on a GPU only
