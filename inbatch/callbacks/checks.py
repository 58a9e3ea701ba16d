"""Training that cannot go on is ended at once: a loss that is not finite, a parameter that no gradient reaches."""

from __future__ import annotations

import math
import re
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from inbatch.errors import TrainingError

# Softmax is blind to what all keys of a query have in common, so the bias of an attention's keys never gets a gradient.
KEY_BIAS = re.compile(r"\b(key|k_proj|k_lin|to_k|Wk)\.(base_layer\.)?bias$")
OBSERVED_STEPS = 2
# LoRA's B starts at 0, and so A has no gradient at the first step, and B must have one.
ADAPTER, ADAPTER_B = re.compile(r"\.lora_[AB]\."), re.compile(r"\.lora_B\.")


class Checks(Callback):
    """Refuse a non-finite loss or gradient before it reaches the weights, and dead parameters after the first steps.

    A parameter is dead if its gradient is None or exactly 0 in both of the first two steps with a loss that is not 0. One step is
    too few: LoRA's A is rightly 0 at the first. A step with learning rate 0 teaches nothing and does not count. Of adapters every B
    must have a gradient at the first step already, and every A and B at the second.

    Raises:
        TrainingError: naming the step, or the parameters, and what mends it.

    Example:
        >>> from types import SimpleNamespace
        >>> trainer, module = SimpleNamespace(global_step=11), SimpleNamespace(mean_loss=math.nan)
        >>> Checks().on_before_backward(trainer, module, None)
        Traceback (most recent call last):
        inbatch.errors.TrainingError: the loss is nan at step 12; the weights were not updated and the last checkpoint is kept.
        Lower the learning rate, raise the temperature, set trainer.gradient_clip_val, or use trainer.precision=bf16-mixed or 32-true.
    """

    def __init__(self) -> None:
        self._observed = 0
        self._dead: set[str] | None = None

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the mean loss over all ranks, which is the same number on each, so that all stop together."""
        mean: Any = pl_module.mean_loss
        if not math.isfinite(mean):
            raise _not_finite(f"the loss is {mean}", trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check the gradients, which are those of all ranks here, and add their norm to the module's metrics."""
        # A float16 run meets infinite gradients by design: its scaler skips the step and lowers the scale.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        norm = total_norm(pl_module)
        numbers: Any = pl_module.metrics
        numbers["train/grad_norm"] = norm
        if not math.isfinite(norm) and not scaled:
            raise _not_finite(f"the gradient's norm is {norm}", trainer)
        if self._observed < OBSERVED_STEPS and math.isfinite(norm):
            self._observe(trainer, pl_module, max(group["lr"] for group in optimizer.param_groups))

    def _observe(self, trainer: Trainer, pl_module: LightningModule, learning_rate: float) -> None:
        trainable = {
            name: p for name, p in pl_module.named_parameters() if p.requires_grad and not KEY_BIAS.search(name)
        }
        without = {name for name, p in trainable.items() if p.grad is None}
        dead = without | {name for name, p in trainable.items() if p.grad is not None and not p.grad.any()}
        loss: Any = pl_module.mean_loss
        if loss == 0:
            return
        # DDP cannot take a second step with a parameter outside the graph, so here the first one decides.
        if without and trainer.world_size > 1:
            raise _dead(without, "the first step")
        if self._dead is None and (idle := {name for name in dead if ADAPTER_B.search(name)}):
            raise _dead(idle, "the first step")
        if learning_rate == 0:
            return
        self._observed += 1
        if self._observed == OBSERVED_STEPS and (idle := {name for name in dead if ADAPTER.search(name)}):
            raise _dead(idle, "the second step")
        self._dead = dead if self._dead is None else self._dead & dead
        if self._observed == OBSERVED_STEPS and self._dead:
            raise _dead(self._dead, f"the first {OBSERVED_STEPS} steps")


def total_norm(module: LightningModule) -> float:
    """Return the Euclidean norm of all gradients together, before clipping.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(1, 1)
        >>> layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
        >>> total_norm(layer)
        5.0
    """
    return float(get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))


def _not_finite(what: str, trainer: Trainer) -> TrainingError:
    return TrainingError(
        f"{what} at step {trainer.global_step + 1}; the weights were not updated and the last checkpoint is kept. "
        "Lower the learning rate, raise the temperature, set trainer.gradient_clip_val, or use trainer.precision=bf16-mixed "
        "or 32-true."
    )


def _dead(names: set[str], when: str) -> TrainingError:
    shown = sorted(names)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return TrainingError(
        f"no gradient reached {', '.join(shown[:5])}{more} in {when}. Freeze what the loss does not use, or give it to a term "
        "that does; with LoRA check lora.targets, with gradient_checkpointing that the inputs require gradients."
    )
