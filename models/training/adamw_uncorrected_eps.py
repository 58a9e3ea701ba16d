"""AdamW as transformers 4.2 had it, which the releases of the SimCSE family trained with: its eps is not corrected for bias."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamWUncorrectedEps(Optimizer):
    """Adam with decoupled weight decay, in which eps joins the second moment before its bias is corrected.

    At step t, with moments m and v: ``p -= lr · sqrt(1 - β2^t) / (1 - β1^t) · m / (sqrt(v) + eps)``, then ``p -= lr · weight_decay · p``.
    torch's has ``sqrt(v / (1 - β2^t)) + eps``: here eps is in effect ``eps / sqrt(1 - β2^t)``, 32 times larger at the first step and
    1.03 times at step 3,000, so that a parameter with small gradients moves less. With eps = 0 the two agree but for the order of the
    decay, which torch takes off the weights before the step.

    Args:
        params: parameters, or groups of them.
        lr: step size, > 0.
        betas: decay rates of m and v, in [0, 1).
        eps: added to sqrt(v), >= 0.
        weight_decay: >= 0.

    Raises:
        ValueError: if a number is out of range.

    Source: Loshchilov and Hutter 2019, arXiv 1711.05101; ``transformers.AdamW`` with ``correct_bias``, of version 4.2.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = AdamWUncorrectedEps([weight], lr=0.1)
        >>> weight.sum().backward()
        >>> _ = optimizer.step()
        >>> bool(weight < 1)
        True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"expected {name} >= 0; got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"expected betas in [0, 1); got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; ``closure`` computes loss and gradients anew, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for step, parameters in self._by_step(group["params"]).items():
                self._update(parameters, step, group)
        return loss

    def _by_step(self, parameters: list[Tensor]) -> dict[int, list[Tensor]]:
        """Count the step of each parameter that has a gradient; mostly all are at the same."""
        found: dict[int, list[Tensor]] = {}
        for p in parameters:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            state["step"] += 1
            found.setdefault(state["step"], []).append(p)
        return found

    def _update(self, parameters: list[Tensor], step: int, group: dict[str, Any]) -> None:
        ops: Any = torch  # whose operations on lists of tensors are not declared public
        beta1, beta2 = group["betas"]
        gradients = [p.grad for p in parameters]
        m, v = ([self.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq"))
        ops._foreach_lerp_(m, gradients, 1 - beta1)
        ops._foreach_mul_(v, beta2)
        ops._foreach_addcmul_(v, gradients, gradients, 1 - beta2)
        denominator = ops._foreach_sqrt(v)
        ops._foreach_add_(denominator, group["eps"])
        size = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        ops._foreach_addcdiv_(parameters, m, denominator, -size)
        if group["weight_decay"]:
            ops._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
