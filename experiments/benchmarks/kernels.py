"""``inbatch bench kernels``: the loss stage, forward and backward, beside the ways in which others do it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inbatch import arithmetic
from inbatch.errors import InbatchError, UsageError
from inbatch.experiments.benchmarks.contestants import Contestant, ours, peers
from inbatch.experiments.benchmarks.regimes import REGIMES, embeddings
from inbatch.experiments.benchmarks.timing import (
    Timing,
    gemm_rate,
    interleave,
    machine,
    notes,
    peak_bytes,
    rows,
    summary,
    warn_of_noise,
)
from inbatch.experiments.output import add_output_arguments, prepare_file, report, table
from inbatch.kernels import info_nce
from inbatch.kernels.infonce.selection import backend_of, is_out_of_memory

# Rows, dimension, temperature, and whether peers take part; a GPU's first shape is what --quick runs.
ON_CPU = [(8192, 384, 0.05, True)]
ON_GPU = [
    (16384, 768, 0.02, True), (65536, 768, 0.02, True), (65536, 384, 0.05, True), (65536, 1024, 0.02, True),
    (262144, 768, 0.02, False), (1048576, 768, 0.02, False),
]  # fmt: skip
# Rows beyond which a step takes seconds: one round is enough, and one direction beyond the second.
LARGE, HUGE = 1 << 17, 1 << 19
REPEATS = 5
# Size of the square products whose rate is the ceiling.
SQUARE = {"cpu": 4096, "cuda": 8192}
# Seconds beyond which a contestant on a GPU runs three rounds only, so that all shapes fit into nine minutes.
SLOW = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["--rows", "1024", "--only-ours"])
        >>> args.rows, args.only_ours, args.regime
        (1024, True, 'random')
    """
    parser.description = (
        "Time forward and backward of InfoNCE over a batch of embeddings. First the gate: values and gradients against float64 on "
        "four kinds of data, and whether five runs give the same bits. Then all contestants in turn, round by round: medians, "
        "quartiles, ratios to the first, useful FLOP/s (6·rows²·dim, whatever is executed) and memory beyond inputs and gradients."
    )
    parser.add_argument("--rows", type=int, help="queries and keys (default: 8192; several sizes on a GPU)")
    parser.add_argument("--dim", type=int, help="embedding dimension (default: 384, on a GPU 768)")
    parser.add_argument("--temperature", type=float, help="(default: 0.05, on a GPU 0.02)")
    parser.add_argument(
        "--regime", choices=REGIMES, default="random", help="kind of data that is timed (default: random)"
    )
    parser.add_argument("--repetitions", type=int, help="timed rounds (default: 9, on a GPU 20)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and one shape on a GPU")
    parser.add_argument("--only-ours", action="store_true", help="no peers: they need memory for rows × rows logits")
    parser.add_argument("--seed", type=int, default=0, help="of the embeddings (default: 0)")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="also draw times and errors (needs matplotlib: pip install 'inbatch[plot]')"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Gate, time, report.

    Raises:
        UsageError: if a number is below 1 or the temperature not positive.
        MissingError: if a plot is asked for without matplotlib, or for a folder that is not there.
        InbatchError: if the gate finds a wrong value of ours; nothing is timed then.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["--temperature", "0"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected --rows, --dim and --repetitions of at least 1 and a positive --temperature
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes, repetitions = _shapes(args, device)
    prepare_file(args.out)
    if device == "cpu":
        arithmetic.measured_rates()  # the operators then multiply as those of a run do
    if args.plot:
        from inbatch.experiments.benchmarks.plots import require_matplotlib

        require_matplotlib()
        prepare_file(args.plot, ".png", "--plot")
    absent: list[str] = []
    everyone = [*ours(device), *([] if args.only_ours else peers(device, absent))]
    lead = everyone[0].name
    gates = check(everyone, shapes[0][1], 1 / shapes[0][2], device, args.seed, absent)
    everyone = [c for c in everyone if c.name in gates]
    if not args.json:
        print(_gate_table(gates))
    gemm = {str(dtype): gemm_rate(dtype, device, SQUARE[device]) for dtype in {c.dtype for c in everyone}}
    results, screens = [], []
    for shape in shapes:
        found = _measure(everyone, *shape, args.regime, device, args.seed, repetitions, absent)
        results.append(found)
        work = 6.0 * found["rows"] ** 2 * found["dim"]
        timings = {name: Timing(tuple(t["seconds"])) for name, t in found["timings"].items()}
        warn_of_noise(timings)
        memory = found["bytes_beyond_inputs_and_gradients"]
        rates = {c.name: gemm[str(c.dtype)] for c in everyone}
        lines = [
            [*line, f"{work / timings[line[0]].median / rates[line[0]]:.2f}", f"{memory[line[0]] / 2**20:.0f}"]
            for line in rows(timings, lead, work)
        ]
        title = (
            f"InfoNCE {found['rows']} × {found['rows']} × {found['dim']}, temperature {found['temperature']}, {args.regime} data, "
            f"forward and backward on {device}"
        )
        columns = ["", "median s", "quartiles", "time ÷ first", "GFLOP/s", "of a product", "extra MiB"]
        screens.append(table(title, columns, lines))
        if not args.json and len(shapes) > 1:
            print(screens[-1] + "\n", flush=True)  # a long run that is cut off has shown what it found
    speeds = ", ".join(f"{name.removeprefix('torch.')} {rate / 1e9:.0f}" for name, rate in gemm.items())
    note = f"GFLOP/s counts 6·b·n·d; square products in this run: {speeds} GFLOP/s. " + notes(sorted(set(absent)))
    backend = backend_of("auto", torch.zeros(1, dtype=everyone[0].dtype, device=device))
    result = {
        "machine": machine(),
        "backend": backend.name,
        "gate": gates,
        "regime": args.regime,
        "gemm_flops": gemm,
        "shapes": results,
        "skipped": sorted(set(absent)),
    }
    if args.plot:
        from inbatch.experiments.benchmarks.plots import draw_benchmark

        draw_benchmark(result, Path(args.plot))
    report(args, result, note if len(shapes) > 1 else f"{screens[0]}\n\n{note}")


def check(
    everyone: list[Contestant], dim: int, scale: float, device: str, seed: int, absent: list[str]
) -> dict[str, dict[str, Any]]:
    """Compare losses and gradients with float64 on all regimes, at a size that is no multiple of anything.

    Returns:
        By contestant: relative errors of ``loss`` and ``gradient`` (the larger of dq and dk, in the Euclidean norm) by regime, and
        ``same_bits``: whether five runs agreed. Peers that fail are left out and appended to ``absent``.

    Raises:
        InbatchError: if one of ours exceeds its bound.

    Example:
        >>> check(ours("cpu")[:1], 16, 20.0, "cpu", 0, [])["inbatch float32"]["same_bits"]
        True
        >>> from inbatch.experiments.benchmarks.contestants import naive
        >>> half = Contestant("half the loss", lambda q, k, scale: naive(q, k, scale) / 2, torch.float32, bound=0.01)
        >>> check([half], 16, 20.0, "cpu", 0, [])
        Traceback (most recent call last):
        inbatch.errors.InbatchError: the gate is red: expected a relative error of half the loss of at most 0.01 on random
        data; got 5.0e-01. Nothing was timed; please report this with the output of `inbatch doctor`.
    """
    # Ours at a size that is no multiple of anything; some peers take only multiples of 128.
    sizes = {True: (203, 130), False: (256, 128)} if device == "cpu" else {True: (4003, 130), False: (4096, 128)}
    errors: dict[str, dict[str, Any]] = {c.name: {"loss": {}, "gradient": {}} for c in everyone}
    for regime in REGIMES:
        data, truths = {}, {}
        for own, symmetric in {(c.bound is not None, c.symmetric) for c in everyone}:
            count, more = sizes[own]
            q, k = embeddings(regime, count, dim, scale, device, seed)
            data[own] = q, torch.cat([k, embeddings("random", more, dim, scale, device, seed + 1)[0]])
            q, k = data[own]
            truths[own, symmetric] = _values(_truth(symmetric), q.double(), k.double(), scale)
        for c in everyone:
            if c.name not in errors:
                continue
            own = c.bound is not None
            try:
                found = [
                    _values(c.step, *c.embeddings(*data[own]), scale)
                    for _ in range(REPEATS if regime == "random" else 1)
                ]
            except Exception as error:
                if c.bound is not None:
                    raise
                absent.append(f"{c.name} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})")
                del errors[c.name]
                continue
            loss, *of = (float((y.double() - x).norm() / x.norm()) for x, y in zip(truths[own, c.symmetric], found[0]))
            errors[c.name]["loss"][regime], errors[c.name]["gradient"][regime] = loss, max(of)
            if regime == "random":
                errors[c.name]["same_bits"] = all(torch.equal(x, y) for run in found for x, y in zip(found[0], run))
            if c.bound is not None and not max(loss, *of) <= c.bound:
                raise InbatchError(
                    f"the gate is red: expected a relative error of {c.name} of at most {c.bound} on {regime} data; got "
                    f"{max(loss, *of):.1e}. Nothing was timed; please report this with the output of `inbatch doctor`."
                )
    return errors


def _truth(symmetric: bool) -> Callable[[Tensor, Tensor, float], Tensor]:
    return lambda q, k, scale: info_nce(q, k, scale=scale, symmetric=symmetric, backend="reference")


def _values(step: Callable[..., Tensor], q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, ...]:
    leaves = q.detach().clone().requires_grad_(), k.detach().clone().requires_grad_()
    loss = step(*leaves, scale)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def _measure(
    everyone: list[Contestant], count: int, dim: int, temperature: float, with_peers: bool, regime: str, device: str, seed: int,
    repetitions: int, absent: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Time all contestants on one shape; peers for which memory runs out are appended to ``absent``."""
    scale = 1 / temperature
    q, k = embeddings(regime, count, dim, scale, device, seed)
    steps, memory, slow = {}, {}, {}
    for c in everyone:
        if (
            (c.bound is None and not with_peers)
            or (c.symmetric and count > HUGE)
            or (count > LARGE and c.dtype == torch.float32)
        ):
            continue
        step = _step(c, q, k, scale)
        try:
            gradients = sum(x.numel() for x in (q, k)) * c.dtype.itemsize
            step()  # compiles, and fails before anything is timed
            memory[c.name] = peak_bytes(step) - gradients
            begin = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            slow[c.name] = device == "cuda" and time.perf_counter() - begin > SLOW
        except Exception as error:
            if c.bound is not None:
                raise
            what = (
                "out of memory"
                if is_out_of_memory(error)
                else f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            )
            absent.append(f"{c.name} at {count} rows ({what})")
            torch.cuda.empty_cache()
            continue
        steps[c.name] = step
    repetitions = 1 if count > LARGE else repetitions
    fast = {name: step for name, step in steps.items() if not slow[name]}
    timings = interleave(fast, repetitions) if fast else {}
    rest = {name: step for name, step in steps.items() if slow[name]}
    timings |= interleave(rest, min(3, repetitions)) if rest else {}
    timings = {name: timings[name] for name in steps}
    return {
        "rows": count,
        "dim": dim,
        "temperature": temperature,
        "timings": summary(timings, next(iter(steps))),
        "bytes_beyond_inputs_and_gradients": memory,
    }


def _step(c: Contestant, q: Tensor, k: Tensor, scale: float) -> Callable[[], Any]:
    leaves = c.embeddings(q, k)
    return lambda: torch.autograd.grad(c.step(*leaves, scale), leaves)


def _shapes(args: argparse.Namespace, device: str) -> tuple[list[tuple[int, int, float, bool]], int]:
    usual = ON_CPU if device == "cpu" else ON_GPU
    if args.quick or args.rows is not None or args.dim is not None or args.temperature is not None:
        rows, dim, temperature, _ = usual[0]
        usual = [(
            rows if args.rows is None else args.rows, dim if args.dim is None else args.dim,
            temperature if args.temperature is None else args.temperature, True,
        )]  # fmt: skip
    repetitions = args.repetitions
    if repetitions is None:
        repetitions = (9 if device == "cpu" else 20) // (3 if args.quick else 1)
    if min(usual[0][0], usual[0][1], repetitions) < 1 or not usual[0][2] > 0:
        raise UsageError("expected --rows, --dim and --repetitions of at least 1 and a positive --temperature")
    return usual, repetitions


def _gate_table(gates: dict[str, dict[str, Any]]) -> str:
    lines = [
        [name, *(f"{found['gradient'][regime]:.1e}" for regime in REGIMES), "yes" if found["same_bits"] else "no"]
        for name, found in gates.items()
    ]
    title = "Gate: relative error of the gradients against float64, by kind of data; and whether five runs gave the same bits"
    return table(title, ["", *REGIMES, "same bits"], lines) + "\n"
