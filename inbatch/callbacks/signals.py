"""SIGTERM and Ctrl-C end a run within its step, and the state before the step is saved; and what is said of that, and of a time that is over."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inbatch.callbacks.ranks import highest
from inbatch.errors import InbatchError
from inbatch.kernels.caching import observed_chunks

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Stopped(InbatchError):
    """A signal ended the run, and what was done up to the last whole step is not lost.

    Args:
        signum: SIGTERM or SIGINT.
        step: that the checkpoint holds; 0 before there is one, None outside of training.

    Example:
        >>> stopped = Stopped(signal.SIGTERM, step=200)
        >>> print(stopped)
        SIGTERM: stopped after step 200, which is saved; the same command resumes.
        >>> stopped.exit_code, Stopped(signal.SIGINT).exit_code
        (75, 130)
    """

    on_all_ranks = True  # see `on_rank_zero`

    def __init__(self, signum: int, step: int | None = None) -> None:
        super().__init__(signum, step)
        self.signum = signum
        self.step = step
        self.exit_code = EXIT_CODES[signal.Signals(signum)]

    def __str__(self) -> str:
        name = signal.Signals(self.signum).name
        if self.step == 0:
            return f"{name}: stopped before the first step was done, so nothing is saved; the same command starts over."
        when = "outside of the training" if self.step is None else f"after step {self.step}, which is saved"
        return f"{name}: stopped {when}; the same command resumes."


class OutOfTime(InbatchError):
    """``trainer.max_time`` is over before the last step.

    Args:
        step: that the checkpoint holds.

    Example:
        >>> print(OutOfTime(200))
        trainer.max_time is over: stopped after step 200, which is saved. The same command with a longer max_time goes on.
    """

    exit_code = 75

    def __init__(self, step: int) -> None:
        super().__init__(
            f"trainer.max_time is over: stopped after step {step}, which is saved. The same command with a longer max_time goes on."
        )


def stop_outside_of_training() -> None:
    """Let SIGTERM raise `Stopped` while there is nothing to save: data being prepared, a finished model being judged.

    Example:
        >>> before = signal.getsignal(signal.SIGTERM)
        >>> stop_outside_of_training()
        >>> signal.raise_signal(signal.SIGTERM)
        Traceback (most recent call last):
        inbatch.callbacks.signals.Stopped: SIGTERM: stopped outside of the training; the same command resumes.
        >>> _ = signal.signal(signal.SIGTERM, before)
    """

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


class Signals(Callback):
    """Raise `Stopped` on SIGTERM and SIGINT while training runs, wherever the state of the last whole step can still be had.

    A process alone is stopped at once: between two operations of the processor, and where a GPU goes backward at the next chunk. Only from
    the optimizer's step on, until `Checkpoints` has noted the new state, a signal waits. What a step changes before its optimizer's
    step is put back by `Checkpoints`. Several ranks wait for one another within a step, in places that are not the same chunk on each; they
    stop together after their step, by `agreed`. Evaluations and other work of rank 0 alone are left at once there, too.

    A second SIGINT leaves at once. Lightning's own handlers, which save nothing and communicate from within the handler, are replaced.

    Example:
        >>> signals = Signals()
        >>> signals.received = signal.SIGTERM  # as its handler notes it
        >>> with signals.held():
        ...     signals.act()
        ...     print("the signal waits")
        the signal waits
        >>> with signals.acting():
        ...     print("not printed")
        Traceback (most recent call last):
        inbatch.callbacks.signals.Stopped: SIGTERM: stopped outside of the training; the same command resumes.
    """

    def __init__(self) -> None:
        self.received = 0
        self._alone = self._free = self._leaving = False
        self._process = 0
        self._open = ExitStack()
        self._pipe: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the two signals; the trainer has put in its own handlers just before, and restores what was there at its end."""
        self._alone = self._free = trainer.world_size == 1
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._open.enter_context(self._woken())
            for signum in EXIT_CODES:
                signal.signal(signum, self._note)
        self._open.enter_context(observed_chunks(lambda *_: self.act()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Let signals wait: weights and optimizer change now, one after the other."""
        self._free = False

    def let_go(self) -> None:
        """Let signals act again: what they may cut short now is known from before; raise what has come in between."""
        # What was raised before and came to nothing, as in a destructor, is raised again.
        self._free, self._leaving = self._alone, False
        self.act()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait until the end."""
        before, self._free = self._free, False
        try:
            yield
        finally:
            self._free = before
        self.act()

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let signals act within what one rank does for all, and which can be done again."""
        before, self._free = self._free, True
        try:
            self.act()
            yield
        finally:
            self._free = before

    def act(self) -> None:
        """Raise `Stopped` if a signal has come and nothing speaks against it."""
        if self._free and not self._leaving and (signum := self.received or self._unseen()):
            self._leaving = True
            raise Stopped(signum)

    def agreed(self) -> int:
        """Return the signal that any rank has received, 0 if none has; all ranks must call, at the same step."""
        return highest(self.received)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let nothing disturb the way out."""
        self._free = False
        self._open.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give back what was taken."""
        self._open.close()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked from this process ends with it
            return
        if signum == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(130)
        self.received = signum
        what = "SIGTERM" if signum == signal.SIGTERM else "Ctrl-C"
        when = "before this step" if self._alone else "after this step"
        again = " (Ctrl-C again leaves at once)" if signum == signal.SIGINT else ""
        os.write(2, f"\n{what}: saving the state {when}{again}\n".encode())
        self.act()

    @contextmanager
    def _woken(self) -> Iterator[None]:
        """Have the numbers of signals written to a pipe, too: the handler waits while the main thread waits for a GPU's backward pass."""
        self._pipe, end = os.pipe()
        for file in (self._pipe, end):
            os.set_blocking(file, False)
        before = signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            for file in (self._pipe, end):
                os.close(file)
            self._pipe = None

    def _unseen(self) -> int:
        """Return a signal that has come and that the handler has not been called for yet; 0 for none."""
        with suppress(BlockingIOError):
            if self._pipe is not None:
                return next((number for number in os.read(self._pipe, 64) if number in EXIT_CODES), 0)
        return 0


def _forget() -> None:
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


# Else a Ctrl-C on a terminal, which goes to the workers too, would be read here once for each of them.
os.register_at_fork(after_in_child=_forget)
