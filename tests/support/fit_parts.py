"""Parts of a run that the configurations of tests name: evaluators, networks, callbacks, objectives."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn

from inbatch import activity
from inbatch.losses.base import LossOutput, Objective
from inbatch.losses.contrastive.infonce import InfoNCE
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
from inbatch.models.heads.pooling import States
from inbatch.views import TokenBatch, Views


class Similarity:
    """An evaluator whose number depends on the weights."""

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        z = encoder.encode(["1 plus 1?", "2 it is"])
        return {"cosine": float(z[0] @ z[1])}


class Early:
    """An evaluator that likes each later state less."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        self.calls += 1
        return {"score": -float(self.calls)}


class Pause:
    """An evaluator that says where it is, and gives a signal time to come."""

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        Path("judging").touch()
        time.sleep(60)
        return {}


class Sleepy(TinyRandom):
    """A network that sleeps in each chunk of one pass, while a file ``sleep`` names it: ``backward 4 1 0.5`` for half a second in the
    backward pass of the fourth step's second batch. A file ``inside`` then says that it is there."""

    place = ("", 0, 0)

    def forward(self, tokens: TokenBatch, layer: int | None = None) -> States:
        words = Path("sleep").read_text().split() if self.training and Path("sleep").exists() else []
        if words and (words[0], int(words[1]), int(words[2])) == Sleepy.place:
            Path("inside").touch()
            time.sleep(float(words[3]))
        return super().forward(tokens, layer)


class Place(Callback):
    """Tell `Sleepy` where the run is, and keep the checkpoint of each step."""

    def __init__(self) -> None:
        self.step, self.batch = 0, 0

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self.batch = self.batch + 1 if trainer.global_step + 1 == self.step else 0
        self.step = trainer.global_step + 1
        Sleepy.place = ("forward", self.step, self.batch)
        last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if Path("keep").exists() and last.exists():
            shutil.copy(last, last.with_name(f"step-{trainer.global_step}.ckpt"))

    def on_before_backward(self, *_: Any) -> None:
        Sleepy.place = ("backward", self.step, self.batch)


class Counting(Callback):
    """A callback with a state that changes as a batch begins."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]


class Hurried(Callback):
    """Let what takes long be said after half a second."""

    def __init__(self) -> None:
        activity.SECONDS_BETWEEN_LINES = 0.5


class SleepyEvaluator(Similarity):
    """An evaluator that sleeps at its n-th call while a file ``sleep`` says so: ``evaluation 2 0 60``."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        self.calls += 1
        words = Path("sleep").read_text().split() if Path("sleep").exists() else []
        if words[:2] == ["evaluation", str(self.calls)]:
            Path("inside").touch()
            time.sleep(float(words[3]))
        return super().__call__(encoder)


class BrokenEvaluator:
    def __call__(self, encoder: Encoder) -> dict[str, float]:
        raise ValueError("the evaluator is broken")


class Slow(Callback):
    """Stretch each step and each write of a checkpoint, so that a signal can be aimed at it."""

    def __init__(self, step_seconds: float = 0.0, save_seconds: float = 0.0) -> None:
        self.step_seconds = step_seconds
        if save_seconds:
            save = torch.save

            def slow_save(content: Any, file: Any) -> None:
                save(content, file)
                file.flush()
                time.sleep(save_seconds)

            torch.save = slow_save

    def on_before_optimizer_step(self, *_: Any) -> None:
        time.sleep(self.step_seconds)


class OwnStopping(EarlyStopping):
    """A class of one's own, which is judged by what it is."""


class FailWhenAsked(Callback):
    """Fail before the step that the environment names, so that the same configuration goes on without it."""

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step + 1 == int(os.environ.get("FAIL_AT_STEP", 0)):
            raise RuntimeError("as asked")


class Recorded(Callback):
    """Keep a weight after each step in ``recorded.jsonl``."""

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        with Path("recorded.jsonl").open("a") as file:
            file.write(json.dumps([trainer.global_step, weight_of(module.encoder)]) + "\n")


def weight_of(encoder: Encoder) -> float:
    return next(
        p for name, p in encoder.named_parameters() if name.endswith(("dense.weight", "dense.base_layer.weight"))
    )[3, 5].item()


class Weight:
    """An evaluator that returns one weight."""

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        return {"value": weight_of(encoder)}


class SlowStart(Callback):
    """Take long before the first step, as reading a large file does."""

    def on_fit_start(self, *_: Any) -> None:
        Path("preparing").touch()
        time.sleep(60)


class FullDiskAfter(Callback):
    """Let no file grow beyond a few bytes after a step, which fails as a full disk does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step + 1:
            # The signal would kill the process before it could say a word.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


class NanAt(InfoNCE):
    """InfoNCE whose loss is not a number at one step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.calls = 0

    def forward(self, z: Views[Tensor], tokens: Views[TokenBatch], encoder: nn.Module) -> LossOutput:
        output = super().forward(z, tokens, encoder)
        self.calls += 1
        return LossOutput(output.loss * float("nan"), output.logs) if self.calls == self.at else output


class WithUnused(InfoNCE):
    """InfoNCE with a parameter that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class NotAnObjective(nn.Module):
    """Here to be refused."""


assert issubclass(NanAt, Objective)
