"""SIGTERM and Ctrl-C end a run at the next step boundary, after a checkpoint; and what is said of that, and of a time that is over."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

from inbatch.callbacks.ranks import highest
from inbatch.errors import InbatchError

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Stopped(InbatchError):
    """A signal ended the run, and nothing is lost.

    Args:
        signum: SIGTERM or SIGINT.
        step: that the checkpoint holds; None outside of training.
    """

    def __init__(self, signum: int, step: int | None) -> None:
        when = "outside of the training" if step is None else f"after step {step}, which is saved"
        super().__init__(f"{signal.Signals(signum).name}: stopped {when}; the same command resumes.")
        self.exit_code = EXIT_CODES[signal.Signals(signum)]


class OutOfTime(InbatchError):
    """``trainer.max_time`` is over before the last step.

    Args:
        step: that the checkpoint holds.
    """

    exit_code = 75

    def __init__(self, step: int) -> None:
        super().__init__(
            f"trainer.max_time is over: stopped after step {step}, which is saved. The same command with a longer max_time goes on."
        )


def stop_outside_of_training() -> None:
    """Let SIGTERM raise `Stopped` while there is nothing to save: data being prepared, a finished model being judged."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum, None)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


class Signals(Callback):
    """Note SIGTERM and SIGINT while training runs.

    A second SIGINT leaves at once. Lightning's own handlers, which save nothing and communicate from
    within the handler, are replaced.
    """

    def __init__(self) -> None:
        self.received = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the two signals; the trainer has put in its own handlers just before, and restores what was there at its end."""
        if threading.current_thread() is threading.main_thread():
            for signum in EXIT_CODES:
                signal.signal(signum, self._note)

    def agreed(self) -> int:
        """Return the signal that any rank has received, 0 if none has; all ranks must call, at the same step."""
        return highest(self.received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(130)
        self.received = signum
        what = "SIGTERM" if signum == signal.SIGTERM else "Ctrl-C"
        again = " (Ctrl-C again leaves at once)" if signum == signal.SIGINT else ""
        os.write(2, f"\n{what}: saving a checkpoint after this step{again}\n".encode())
