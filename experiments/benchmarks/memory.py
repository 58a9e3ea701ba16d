"""``inbatch bench memory``: what the loss stage allocates as the batch grows, beside autograd, which materializes the similarity matrix."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inbatch.errors import UsageError
from inbatch.experiments.benchmarks.contestants import Contestant, naive, ours
from inbatch.experiments.benchmarks.plots import OURS, PALE, PEER, STYLE, WIDTH, require_matplotlib
from inbatch.experiments.benchmarks.timing import machine, peak_bytes
from inbatch.experiments.output import add_output_arguments, prepare_file, report, table
from inbatch.files import replace_file

# What autograd allocates in float32, in matrices of rows × rows; it is measured only where that many fit.
_MATRICES = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["--rows", "4096"])
        >>> args.from_rows, args.rows
        (1024, 4096)
    """
    parser.description = (
        "Measure the peak of what forward and backward of InfoNCE allocate beyond embeddings and gradients, for batches that double "
        "in size: each row has that many in-batch negatives, less one. What is allocated is counted, not what the machine has left, so that "
        "other programs change nothing."
    )
    parser.add_argument("--from-rows", type=int, default=1024, help="the smallest batch (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=32768, help="the largest batch (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=384, help="embedding dimension (default: %(default)s)")
    parser.add_argument(
        "--matrix-gib",
        type=float,
        default=8.0,
        metavar="GIB",
        help="autograd is left out beyond this (default: %(default)s)",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw it, as .svg or .png (needs matplotlib: pip install 'inbatch[plot]')"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, print a table, and draw it if asked.

    Raises:
        UsageError: if the sizes are no sizes, or the picture is neither SVG nor PNG.
        MissingError: if a picture is wanted and matplotlib is not installed.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["--rows", "512"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected 1 < --from-rows <= --rows and --dim > 0; got 1024, 512 and 384.
    """
    if not (1 < args.from_rows <= args.rows and args.dim > 0):
        raise UsageError(
            f"expected 1 < --from-rows <= --rows and --dim > 0; got {args.from_rows}, {args.rows} and {args.dim}."
        )
    if args.plot is not None:
        if Path(args.plot).suffix not in (".svg", ".png"):
            raise UsageError(f"expected --plot to end in .svg or .png; got {args.plot}.")
        require_matplotlib()
        prepare_file(args.plot, Path(args.plot).suffix, "--plot")
    prepare_file(args.out)
    result = measure(args.from_rows, args.rows, args.dim, args.matrix_gib * 2**30)
    names = list(dict.fromkeys(name for size in result["sizes"] for name in size["bytes"]))
    lines = [
        [f"{size['rows']:,}", *(f"{size['bytes'][n] / 2**20:,.0f}" if n in size["bytes"] else "-" for n in names)]
        for size in result["sizes"]
    ]
    title = f"peak allocation beyond embeddings and gradients, MiB, dimension {args.dim}"
    report(args, result, table(title, ["rows", *names], lines))
    if args.plot is not None:
        draw(result, Path(args.plot))


def measure(first: int, last: int, dim: int, most: float) -> dict[str, Any]:
    """Return the peaks by batch and way, in bytes beyond inputs and gradients, with what they were measured on.

    Args:
        first: rows of the smallest batch; each next one has twice as many.
        last: rows of the largest.
        dim: of the embeddings.
        most: bytes beyond which autograd is left out.

    Example:
        >>> small, large = measure(8, 16, dim=4, most=1100.0)["sizes"]  # bytes: room for four matrices of 8 × 8 float32, not of 16 × 16
        >>> small["rows"], "autograd cross_entropy" in small["bytes"]
        (8, True)
        >>> large["rows"], "autograd cross_entropy" in large["bytes"]
        (16, False)
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    everyone = [*ours(device)[:2], Contestant("autograd cross_entropy", naive, torch.float32)]
    sizes, rows = [], first
    while rows <= last:
        print(f"{rows:,} rows", file=sys.stderr, flush=True)
        fitting = [c for c in everyone if c.bound is not None or _MATRICES * 4 * rows**2 <= most]
        sizes.append({"rows": rows, "bytes": {c.name: _peak(c, rows, dim, device) for c in fitting}})
        rows *= 2
    return {"dim": dim, "sizes": sizes, "machine": machine()}


def _peak(contestant: Contestant, rows: int, dim: int, device: str) -> int:
    rng = torch.Generator().manual_seed(0)
    drawn = (torch.nn.functional.normalize(torch.randn(rows, dim, generator=rng), dim=1).to(device) for _ in range(2))
    leaves = contestant.embeddings(*drawn)

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(contestant.step(*leaves, 20.0), leaves)

    if device == "cuda":
        step()  # compiles
    return peak_bytes(step) - sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw peaks against rows, both logarithmic, and write the picture in the format of its ending.

    Example:
        >>> from importlib.util import find_spec
        >>> sizes = [{"rows": rows, "bytes": {"inbatch float32": 2**20, "autograd": 16 * rows**2}} for rows in (512, 1024)]
        >>> facts = {"processor": "a laptop's", "threads": 2, "torch": "2.11", "date": "2026-11-28"}
        >>> if find_spec("matplotlib"):  # an extra
        ...     draw({"dim": 384, "sizes": sizes, "machine": facts}, Path("peaks.svg"))
        >>> Path("peaks.svg").is_file() or not find_spec("matplotlib")
        True
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {**STYLE, "svg.hashsalt": "inbatch", "svg.fonttype": "path"}
    with rc_context(style), replace_file(path) as file:
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        names = list(dict.fromkeys(name for size in result["sizes"] for name in size["bytes"]))
        for number, name in enumerate(names):
            found = [(size["rows"], size["bytes"][name] / 2**20) for size in result["sizes"] if name in size["bytes"]]
            marker, color = OURS if name.startswith("inbatch") else PEER
            dashes = "--" if "bfloat16" in name else "-"
            axes.plot(*zip(*found), dashes, marker=marker, color=color, markersize=4, linewidth=1.3)
            rows, mib = found[-1]
            text = (
                "autograd, which materializes\nthe similarity matrix"
                if number == len(names) - 1
                else name.replace("inbatch", "info_nce,")
            )
            above = name.startswith("autograd") or "bfloat16" in name
            axes.annotate(
                text, (rows, mib), xytext=(5, 3 if above else -8), textcoords="offset points", color=color, fontsize=8
            )
        sizes = [size["rows"] for size in result["sizes"]]
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{rows:,}" for rows in sizes])
        axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 2.6)
        axes.margins(y=0.12)
        axes.set_xlabel("rows in the batch; each has the others as in-batch negatives")
        axes.set_ylabel("MiB beyond embeddings and gradients")
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        facts = result["machine"]
        where = facts.get("gpu", f"{facts['processor']}, {facts['threads']} threads")
        figure.supxlabel(
            f"Peak allocation of forward and backward, dimension {result['dim']}. {where}; torch {facts['torch']}; {facts['date']}",
            fontsize=6, color=PALE,
        )  # fmt: skip
        options: dict[str, Any] = {"dpi": 200} if path.suffix == ".png" else {"metadata": {"Date": None}}
        figure.savefig(file, format=path.suffix.removeprefix("."), **options)
