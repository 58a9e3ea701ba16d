"""One case through the operator and through the loops: how far every value and gradient is from the truth."""

from __future__ import annotations

import info_nce_oracle as oracle
import numpy as np
import torch
from info_nce_cases import cast, for_oracle

from inbatch.kernels import info_nce


def relative_error(found, truth, unit):
    """Largest error relative to the largest true entry or ``unit``, the size before cancellation; infinite for NaN."""
    found, truth = np.asarray(found, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if not np.isfinite(found).all():
        return np.inf
    largest = max(float(np.abs(truth).max(initial=0.0)), unit, 1e-30)
    return float(np.abs(found - truth).max(initial=0.0)) / largest


def run(case, dtype, backend, **more):
    """Compute losses and all gradients of one case."""
    q, k, arguments, _, upstream = case
    arguments = {**cast(arguments, dtype), **more}
    leaves = {"query": q.to(dtype), "key": k.to(dtype), "scale": torch.tensor(arguments["scale"], dtype=torch.float64)}
    leaves |= {name: arguments[name] for name in ("positive", "extra") if name in arguments}
    leaves = {name: t.clone().requires_grad_() for name, t in leaves.items()}
    loss = info_nce(**{**arguments, **leaves}, backend=backend)
    total = (loss * torch.tensor(upstream, dtype=loss.dtype)).sum() if loss.dim() else loss
    return loss.detach(), dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))


def errors(case, dtype, backend, **more):
    """Compare a call with the loops: ``{"loss": …, "query": …, …}``, relative errors of the loss and of every gradient."""
    q, k, arguments, factor, _ = case
    truth = oracle.info_nce(q.tolist(), k.tolist(), factor=factor, **for_oracle(cast(arguments, dtype)))
    loss, grads = run(case, dtype, backend, **more)
    losses = truth.losses * (arguments["weight"].numpy() if "weight" in arguments else np.ones(len(q)))
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[arguments["reduction"]]
    widest_q, widest_k = float(q.abs().max()), float(k.abs().max())
    unit = truth.unit
    true_gradients = {
        "query": (truth.dq, unit * arguments["scale"] * widest_k),
        "key": (truth.dk, unit * arguments["scale"] * widest_q * len(q)),
        "scale": (truth.d_scale, unit * widest_q * widest_k * q.shape[1] * len(q)),
        "positive": (truth.d_positive, unit),
        "extra": (truth.d_extra, unit),
    }
    found = {name: relative_error(grad, *true_gradients[name]) for name, grad in grads.items()}
    return {"loss": relative_error(loss, expected, 0.0), **found}
