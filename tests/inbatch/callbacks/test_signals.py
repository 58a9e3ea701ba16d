from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from inbatch.callbacks.signals import Signals, Stopped, stop_outside_of_training


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    callback = Signals()
    nothing: Any = None
    callback.on_train_start(nothing, nothing)
    yield callback
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_does_not_interrupt(signals: Signals, signum: int, capfd: pytest.CaptureFixture[str]):
    assert signals.agreed() == 0
    os.kill(os.getpid(), signum)
    assert signals.agreed() == signum
    said = capfd.readouterr().err
    assert "saving a checkpoint after this step" in said
    assert ("Ctrl-C again leaves at once" in said) == (signum == signal.SIGINT)


def test_a_second_ctrl_c_leaves_at_once(signals: Signals, monkeypatch: pytest.MonkeyPatch):
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)  # the first Ctrl-C
    assert left == []
    os.kill(os.getpid(), signal.SIGINT)
    assert left == [130]


def test_sigterm_outside_of_training_stops_at_once():
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop_outside_of_training()
        with pytest.raises(Stopped, match="outside of the training") as caught:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_stopped_carries_the_exit_code_and_the_step(signum: int, code: int):
    error = Stopped(signum, 12)
    assert error.exit_code == code
    assert "stopped after step 12, which is saved" in str(error)
