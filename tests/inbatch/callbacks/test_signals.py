from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inbatch.callbacks.signals import Signals, Stopped, stop_outside_of_training
from inbatch.kernels import map_in_chunks

NOTHING: Any = None


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def listening(ranks: int = 1) -> Signals:
    callback = Signals()
    trainer: Any = SimpleNamespace(world_size=ranks)
    callback.on_train_start(trainer, NOTHING)
    return callback


@pytest.fixture
def signals(handlers: None) -> Iterator[Signals]:
    callback = listening()
    yield callback
    callback.teardown(NOTHING, NOTHING, "fit")


def in_chunks(at: int, signum: int) -> list[str]:
    """Run three chunks forward and backward, get the signal within one of them, and note which have begun."""
    begun: list[str] = []

    def double(rows: Tensor) -> Tensor:
        begun.append("backward" if len(begun) >= 3 else "forward")
        if len(begun) == at:
            os.kill(os.getpid(), signum)
        return (2 * rows).exp()

    map_in_chunks(double, torch.ones(3, 1, requires_grad=True), budget=1).sum().backward()
    return begun


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [2, 5], ids=["forward", "backward"])
def test_a_process_alone_is_stopped_within_its_pass(
    signals: Signals, signum: int, at: int, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(Stopped) as caught:
        in_chunks(at, signum)
    assert caught.value.signum == signum
    said = capfd.readouterr().err
    assert "saving the state before this step" in said
    assert ("Ctrl-C again leaves at once" in said) == (signum == signal.SIGINT)
    signals.act()  # told once: nothing disturbs the way out


def test_from_the_optimizers_step_on_a_signal_waits_until_the_state_is_noted(signals: Signals):
    signals.on_before_optimizer_step(NOTHING, NOTHING, NOTHING)
    assert len(in_chunks(2, signal.SIGTERM)) == 5
    with pytest.raises(Stopped, match="SIGTERM"):
        signals.let_go()


def test_a_signal_that_came_to_nothing_in_a_destructor_is_raised_after_the_step(
    signals: Signals, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    Dying()  # Python says what is raised in there, and goes on
    signals.act()
    with pytest.raises(Stopped, match="SIGTERM"):
        signals.let_go()


def test_what_is_held_is_free_again_after_an_error(signals: Signals):
    with pytest.raises(ValueError, match="other"), signals.held():
        raise ValueError("other")
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_held_is_ended_first(signals: Signals):
    begun: list[str] = []

    def save() -> None:
        with signals.held():
            begun.extend(in_chunks(2, signal.SIGTERM))

    with pytest.raises(Stopped):
        save()
    assert len(begun) == 5


@pytest.mark.parametrize("before", [False, True], ids=["within", "before"])
def test_an_evaluation_within_what_is_held_is_left_at_once(signals: Signals, before: bool):
    begun: list[str] = []

    def evaluate() -> None:
        with signals.held():
            begun.append("held")
            os.kill(os.getpid(), signal.SIGTERM if before else 0)
            with signals.acting():
                begun.append("evaluation")
                os.kill(os.getpid(), signal.SIGTERM)
                begun.append("its end")

    with pytest.raises(Stopped):
        evaluate()
    assert begun == (["held"] if before else ["held", "evaluation"])


def test_several_ranks_go_on_to_the_end_of_their_step(handlers: None, capfd: pytest.CaptureFixture[str]):
    signals = listening(ranks=2)
    assert len(in_chunks(2, signal.SIGTERM)) == 5
    assert "saving the state after this step" in capfd.readouterr().err
    signals.let_go()
    assert signals.agreed() == signal.SIGTERM
    with pytest.raises(Stopped), signals.acting():  # of rank 0 alone
        raise AssertionError("not reached")
    signals.teardown(NOTHING, NOTHING, "fit")


def test_a_chunk_in_another_thread_sees_a_signal_while_the_main_thread_waits(signals: Signals):
    """As on a GPU, whose backward pass runs in a thread of autograd's, while the main thread can call no handler."""
    raised: list[BaseException] = []
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # stands for the handler that has no turn; the pipe is written all the same

    def backward() -> None:
        try:
            for _ in range(2000):
                in_chunks(0, 0)
                time.sleep(0.005)
        except Stopped as error:
            raised.append(error)

    thread = threading.Thread(target=backward)
    thread.start()
    os.kill(os.getpid(), signal.SIGTERM)
    thread.join(20)
    assert [str(error)[:7] for error in raised] == ["SIGTERM"]


def test_a_signal_to_a_worker_is_not_one_to_this_process(signals: Signals):
    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join(20)
    assert worker.exitcode == 0
    signals.act()
    assert signals.received == 0


def test_a_second_ctrl_c_leaves_at_once(signals: Signals, monkeypatch: pytest.MonkeyPatch):
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)  # the first Ctrl-C
    assert left == []
    os.kill(os.getpid(), signal.SIGINT)
    assert left == [130]


def test_what_was_taken_is_given_back(handlers: None):
    signals = listening()
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    assert signal.set_wakeup_fd(-1) >= 0
    signals.teardown(NOTHING, NOTHING, "fit")
    signals.on_exception(NOTHING, NOTHING, ValueError())
    assert signal.set_wakeup_fd(-1) == -1
    assert files is None or len(os.listdir("/proc/self/fd")) == files - 2


def test_sigterm_outside_of_training_stops_at_once(handlers: None):
    stop_outside_of_training()
    with pytest.raises(Stopped, match="outside of the training") as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_stopped_carries_the_exit_code_and_the_step_to_all_ranks(signum: int, code: int):
    error = pickle.loads(pickle.dumps(Stopped(signum, 12)))
    assert error.exit_code == code
    assert "stopped after step 12, which is saved; the same command resumes" in str(error)
    error.step = 0
    assert "nothing is saved; the same command starts over" in str(error)
