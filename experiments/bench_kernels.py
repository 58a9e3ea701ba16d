"""``inbatch bench kernels``: the loss stage, forward and backward, beside the ways in which others do it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from inbatch.errors import InbatchError, UsageError
from inbatch.experiments.output import add_output_arguments, report, table
from inbatch.experiments.timing import gemm_rate, interleave, machine, notes, peak_bytes, rows, summary
from inbatch.kernels import info_nce
from inbatch.kernels.chunked import DEFAULT_WORKSPACE

OURS, BFLOAT16 = "inbatch float32", "inbatch bfloat16"
Step = Callable[[Tensor, Tensor, float], Tensor]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Time forward and backward of InfoNCE over a batch of random, normalised embeddings. First the gate: values and gradients "
        "against float64. Then all contestants in turn, round by round; medians, quartiles and ratios to ours."
    )
    parser.add_argument("--rows", type=int, default=8192, help="queries and keys (default: 8192)")
    parser.add_argument("--dim", type=int, default=384, help="embedding dimension (default: 384)")
    parser.add_argument("--temperature", type=float, default=0.05, help="(default: 0.05)")
    parser.add_argument("--repetitions", type=int, default=9, help="timed rounds (default: 9)")
    parser.add_argument("--only-ours", action="store_true", help="no peers: they need memory for rows × rows logits")
    parser.add_argument("--seed", type=int, default=0, help="of the embeddings (default: 0)")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Gate, time, report.

    Raises:
        UsageError: if a number is below 1 or the temperature not positive.
        InbatchError: if the gate finds a wrong value; nothing is timed then.
    """
    if min(args.rows, args.dim, args.repetitions) < 1 or not args.temperature > 0:
        raise UsageError("expected --rows, --dim and --repetitions of at least 1 and a positive --temperature")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scale = 1 / args.temperature
    absent: list[str] = []
    others = peers(absent)
    gate = check(args.dim, scale, device, args.seed, {} if args.only_ours else others)
    q, k = _pairs(args.rows, args.dim, device, args.seed)
    contestants = {OURS: _step(_ours, q, k, scale), BFLOAT16: _step(_ours, q.bfloat16(), k.bfloat16(), scale)}
    contestants["inbatch float32 symmetric"] = _step(_symmetric, q, k, scale)
    if not args.only_ours:
        contestants |= {name: _step(step, q, k, scale) for name, step in others.items()}
    timings = interleave(contestants, args.repetitions)
    gradients = {name: 2 * q.numel() * (2 if name == BFLOAT16 else 4) for name in contestants}
    memory = {name: peak_bytes(step) - gradients[name] for name, step in contestants.items()}
    work = 6.0 * args.rows**2 * args.dim
    result = {
        "rows": args.rows,
        "dim": args.dim,
        "temperature": args.temperature,
        "machine": machine(),
        "gate": gate,
        "timings": summary(timings, OURS),
        "bytes_beyond_inputs_and_gradients": memory,
        "workspace_bytes": DEFAULT_WORKSPACE,
        "gemm_flops": gemm_rate(torch.float32, device, 4096),
        "skipped": absent,
    }
    lines = [[*line, f"{memory[line[0]] / 2**20:.0f}"] for line in rows(timings, OURS, work)]
    title = f"InfoNCE {args.rows} × {args.rows} × {args.dim}, temperature {args.temperature}, forward and backward on {device}"
    columns = ["", "median s", "quartiles", "time ÷ ours", "GFLOP/s", "extra MiB"]
    note = f"GFLOP/s counts 6·b·n·d; a 4096³ float32 product runs at {result['gemm_flops'] / 1e9:.0f}. " + notes(absent)
    if not args.json:
        print("gate: " + ", ".join(f"{name} {value:.1e}" for name, value in gate.items()))
    report(args, result, table(title, columns, lines, note))


def check(dim: int, scale: float, device: str, seed: int, others: dict[str, Step]) -> dict[str, float]:
    """Compare values and gradients of every contestant with float64, at a size that is no multiple of anything.

    Returns:
        Largest relative error of loss, dq and dk, by contestant.

    Raises:
        InbatchError: if one of ours exceeds 2e-4 in float32 or 2e-2 in bfloat16, or a peer 2e-2.
    """
    q, k = _pairs(203, dim, device, seed)
    q, k = q.bfloat16(), k.bfloat16()
    more = normalize(torch.randn(130, dim, device=device), dim=1).bfloat16()
    contestants = [
        (OURS, _ours, torch.float32, 2e-4),
        (BFLOAT16, _ours, torch.bfloat16, 2e-2),
        ("inbatch float32 symmetric", _symmetric, torch.float32, 2e-4),
        *((name, step, torch.float32, 2e-2) for name, step in others.items()),
    ]
    errors = {}
    for name, step, dtype, bound in contestants:
        key = torch.cat([k, more])
        truth = _values(_naive_symmetric if step is _symmetric else _naive, q.double(), key.double(), scale)
        found = _values(step, q.to(dtype), key.to(dtype), scale)
        errors[name] = max(float((y.double() - x).abs().max() / x.abs().max()) for x, y in zip(truth, found))
        if not errors[name] <= bound:
            raise InbatchError(
                f"the gate is red: expected a relative error of {name} of at most {bound}; got {errors[name]:.1e}. "
                "Nothing was timed; please report this with the output of `inbatch doctor`."
            )
    return errors


def peers(absent: list[str]) -> dict[str, Step]:
    """Collect the ways of others that this installation has; names of the missing ones are appended to ``absent``."""
    found: dict[str, Step] = {"autograd cross_entropy": _naive}
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is None:
        absent.append("torch linear_cross_entropy (torch >= 2.13)")
    else:
        for name, option in {
            "torch linear_cross_entropy": options(),
            "torch linear_cross_entropy, chunk 512": options(chunking_method=None, batch_chunk_size=512),
            "torch linear_cross_entropy, chunk 2048": options(chunking_method=None, batch_chunk_size=2048),
        }.items():
            found[name] = _native(option)
    return found


def _pairs(count: int, dim: int, device: str, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = normalize(torch.randn(count, dim, generator=generator), dim=1)
    # Positives at a cosine of about 0.45: a loss that is neither converged nor at its start.
    k = normalize(q + 2 * normalize(torch.randn(count, dim, generator=generator), dim=1), dim=1)
    return q.to(device), k.to(device)


def _values(step: Step, q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, ...]:
    leaves = q.detach().clone().requires_grad_(), k.detach().clone().requires_grad_()
    loss = step(*leaves, scale)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def _step(step: Step, q: Tensor, k: Tensor, scale: float) -> Callable[[], Any]:
    leaves = q.detach().clone().requires_grad_(), k.detach().clone().requires_grad_()
    return lambda: torch.autograd.grad(step(*leaves, scale), leaves)


def _ours(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return info_nce(q, k, scale=scale)


def _symmetric(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return info_nce(q, k, scale=scale, symmetric=True)


def _naive(q: Tensor, k: Tensor, scale: float) -> Tensor:
    return cross_entropy(scale * q @ k.T, torch.arange(len(q), device=q.device))


def _naive_symmetric(q: Tensor, k: Tensor, scale: float) -> Tensor:
    columns = cross_entropy(scale * k[: len(q)] @ q.T, torch.arange(len(q), device=q.device))
    return (_naive(q, k, scale) + columns) / 2


def _native(options: Any) -> Step:
    def step(q: Tensor, k: Tensor, scale: float) -> Tensor:
        target = torch.arange(len(q), device=q.device)
        return torch.nn.functional.linear_cross_entropy(scale * q, k, target, options=options)  # type: ignore[attr-defined]

    return step
