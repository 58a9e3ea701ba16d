"""Pictures of what commands measured; matplotlib is an extra, and only loaded here."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from inbatch.errors import MissingError
from inbatch.experiments.benchmarks.timing import NOISY
from inbatch.files import replace_file

# Marker and colour of ours and of others: told apart by colour-blind readers (the palette of Okabe and Ito) and in grey print.
OURS, PEER = ("o", "#0072B2"), ("D", "#D55E00")
INK, PALE, GRID = "#222222", "#666666", "#e4e4e4"
# Inches: the width of a page's text, and the height of a contestant and of a panel's title and axis.
WIDTH, ROW, FRAME = 6.75, 0.23, 0.85
DOTS_PER_INCH = 300
# Seconds from which on a unit is taken, by the first contestant's median.
UNITS = [(0.1, 1.0, "s"), (1e-4, 1e3, "ms"), (0.0, 1e6, "µs")]
STYLE = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": PALE,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "mathtext.default": "regular",
}


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib, before the long work.

    Raises:
        MissingError: with the command that installs it.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("inbatch.experiments.benchmarks.plots.find_spec", return_value=None):  # as where it is not installed
        ...     require_matplotlib()
        Traceback (most recent call last):
        inbatch.errors.MissingError: expected matplotlib for --plot; it is not installed. Run `pip install 'inbatch[plot]'`
        (in a checkout `.venv/bin/pip install -c constraints.txt -e '.[plot]'`).
    """
    if find_spec("matplotlib") is None:
        raise MissingError(
            "expected matplotlib for --plot; it is not installed. Run `pip install 'inbatch[plot]'` "
            "(in a checkout `.venv/bin/pip install -c constraints.txt -e '.[plot]'`)."
        )


def draw_benchmark(result: dict[str, Any], path: Path) -> None:
    """Write the picture of a `bench kernels` result as PNG, 6.75 inches wide.

    Example:
        >>> from inbatch.experiments.benchmarks.timing import Timing, machine, summary
        >>> timings = summary({"ours": Timing((0.2, 0.3, 0.4)), "theirs": Timing((0.6, 0.6, 0.7))}, "ours")
        >>> errors = {name: {"gradient": {"converged": 1e-6}} for name in timings}
        >>> shapes = [{"rows": 64, "dim": 8, "temperature": 0.05, "timings": timings}]
        >>> result = {"machine": machine(), "regime": "random", "gate": errors, "shapes": shapes}
        >>> if find_spec("matplotlib"):  # an extra
        ...     draw_benchmark(result, Path("bench.png"))
        >>> not find_spec("matplotlib") or int.from_bytes(Path("bench.png").read_bytes()[16:20]) == 2025  # 6.75 inches of 300 dots
        True
    """
    from matplotlib import rc_context

    style: Any = STYLE
    with rc_context(style), replace_file(path) as file:
        picture(result).savefig(file, format="png", dpi=DOTS_PER_INCH)


def picture(result: dict[str, Any]) -> Any:
    """Draw a `bench kernels` result: a panel of times for each shape, then one of gradient errors.

    Panels stand in pairs that share their contestants. All axes are logarithmic, so that equal distances are equal ratios; what has
    no logarithm (an error of 0, an undefined one) is told as a number only.

    Returns:
        A matplotlib ``Figure``.

    Example:
        >>> from inbatch.experiments.benchmarks.timing import Timing, machine, summary
        >>> timings = summary({"inbatch float32": Timing((0.2, 0.3, 0.4))}, "inbatch float32")
        >>> shape = {"rows": 64, "dim": 8, "temperature": 0.05, "timings": timings}
        >>> gate = {"inbatch float32": {"gradient": {"converged": 1e-6}}}
        >>> if find_spec("matplotlib"):  # an extra
        ...     figure = picture({"machine": machine(), "regime": "random", "gate": gate, "shapes": [shape]})
        >>> not find_spec("matplotlib") or figure.axes[0].get_xlabel() == "time (s, log scale)"
        True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shapes, gate = result["shapes"], result["gate"]
    panels = [*((_draw_times, shape) for shape in shapes), (_draw_errors, gate)]
    pairs = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    shown = [[name for name in gate if any(name in found.get("timings", found) for _, found in pair)] for pair in pairs]
    heights = [FRAME + ROW * len(names) for names in shown]
    figure = Figure(figsize=(WIDTH, 0.55 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(pairs),
        2,
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "width_ratios": [1.2, 1] if len(pairs) == 1 else [1, 1]},
    )
    letters = iter(ascii_lowercase)
    for pair, names, row in zip(pairs, shown, grid):
        for axes, (draw, found) in zip(row, pair):
            _prepare(axes, names)
            title = draw(axes, names, found)
            axes.set_title(rf"$\bf{{({next(letters)})}}$ {title}", loc="left", pad=4)
        for axes in row[len(pair) :]:
            axes.remove()
    figure.align_xlabels()
    noisy = any(t["noisy"] for shape in shapes for t in shape["timings"].values())
    figure.legend(
        handles=_legend(noisy), loc="outside upper left", ncols=4, frameon=False, handletextpad=0.3, columnspacing=1.2
    )
    figure.supxlabel(_footnote(result), x=0.008, ha="left", fontsize=6.5, color=PALE, linespacing=1.35)
    return figure


def _draw_times(axes: Any, names: Sequence[str], shape: dict[str, Any]) -> str:
    """Draw medians with quartiles, and the median of the first as a line through all; return the panel's title."""
    timings = shape["timings"]
    first = next(iter(timings.values()))["median_s"]
    factor, unit = next((factor, unit) for limit, factor, unit in UNITS if first >= limit)
    for y, name in enumerate(names):
        if name not in timings:
            _tell(axes, y, "not run", color=PALE)
            continue
        timing = timings[name]
        median, low, high = (factor * seconds for seconds in (timing["median_s"], *timing["quartiles_s"]))
        _mark(axes, y, name, median, [[max(median - low, 0)], [max(high - median, 0)]], timing["noisy"])
        ratio = timing["ratio_to_ours"]
        _tell(axes, y, _digits(median), (f"{ratio:.2f}" if ratio < 10 else _digits(ratio)) + "×")
    axes.axvline(factor * first, color=OURS[1], linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    _scale(axes, [factor * seconds for t in timings.values() for seconds in t["quartiles_s"]])
    _tell(axes, None, unit, "÷ first", color=PALE)
    axes.set_xlabel(f"time ({unit}, log scale)")
    return (
        f"InfoNCE, forward and backward\n{shape['rows']} × {shape['rows']} × {shape['dim']}, τ = {shape['temperature']}"
    )


def _draw_errors(axes: Any, names: Sequence[str], gate: dict[str, Any]) -> str:
    """Draw the errors of gradients; return the panel's title."""
    errors = {name: gate[name]["gradient"]["converged"] for name in names}
    drawable = {name: error for name, error in errors.items() if math.isfinite(error) and error > 0}
    for y, (name, error) in enumerate(errors.items()):
        if name in drawable:
            _mark(axes, y, name, error, None, False)
        _tell(axes, y, _power(error, 1) if name in drawable else f"{error:g}")
    _scale(axes, list(drawable.values()))
    axes.set_xlabel("relative error (log scale)")
    return "Gradients against float64\nwhere the loss is about 10⁻⁶"


def _prepare(axes: Any, names: Sequence[str]) -> None:
    """Give each contestant a line, the first on top."""
    axes.set_yticks(range(len(names)), [textwrap.fill(name, 29, break_on_hyphens=False) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _mark(axes: Any, y: int, name: str, value: float, spread: Any, noisy: bool) -> None:
    marker, colour = _kind(name)
    axes.errorbar(
        value, y, xerr=spread, fmt=marker, color=colour, markersize=4, markerfacecolor="white" if noisy else colour,
        markeredgewidth=0.9, elinewidth=0.9, capsize=2, capthick=0.9, zorder=3,
    )  # fmt: skip


def _tell(axes: Any, y: int | None, value: str, ratio: str = "", color: str = INK) -> None:
    """Write beside the panel, in columns, so that no number hides a mark; above them where ``y`` is None."""
    place = {"xy": (1, 1), "xycoords": "axes fraction", "va": "bottom"}
    if y is not None:
        place = {"xy": (1, y), "xycoords": axes.get_yaxis_transform(), "va": "center_baseline"}
    for text, inches in ((value, 0.56), (ratio, 0.98)):
        if text:
            axes.annotate(
                text, xytext=(72 * inches, 4 if y is None else 0), textcoords="offset points", ha="right", fontsize=7,
                color=color, annotation_clip=False, **place,
            )  # fmt: skip


def _scale(axes: Any, values: Sequence[float]) -> None:
    """Make the axis logarithmic, from a step of 1, 2, 5, 10 … to another; label all, or powers of ten where those are many."""
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    steps = [float(f"{digit}e{exponent}") for exponent in decades for digit in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= min(values))
    last = min(i for i, step in enumerate(steps) if step >= max(values))
    ticks = steps[first : max(last, first + 1) + 1]
    axes.set_xscale("log")
    edge = (ticks[-1] / ticks[0]) ** 0.05  # so that no mark is cut off
    axes.set_xlim(ticks[0] / edge, ticks[-1] * edge)
    if len(ticks) > 6:
        powers = [step for step in steps[::3] if ticks[0] <= step <= ticks[-1]]
        ticks = powers[:: math.ceil(len(powers) / 4)]
    axes.set_xticks(
        ticks, [_power(tick, 0).replace(r"1\times", "") if ticks[0] < 1e-3 else f"{tick:g}" for tick in ticks]
    )
    axes.set_xticks([], minor=True)


def _legend(noisy: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, markersize=4, **style)

    handles = [
        entry(label, marker=marker, color=colour, linewidth=0.9)
        for label, (marker, colour) in (("inbatch", OURS), ("others", PEER))
    ]
    handles.append(entry("median of the first", color=OURS[1], linewidth=0.7, linestyle=(0, (4, 3))))
    if noisy:
        hollow = {"marker": PEER[0], "color": PALE, "markerfacecolor": "white", "linewidth": 0.9}
        handles.append(entry(f"noisy: quartiles more than {NOISY:.0%} of the median apart", **hollow))
    return handles


def _footnote(result: dict[str, Any]) -> str:
    facts, shapes = result["machine"], result["shapes"]
    rounds = sorted({len(t["seconds"]) for shape in shapes for t in shape["timings"].values()})
    counted = " to ".join(str(n) for n in sorted({rounds[0], rounds[-1]}))
    where = facts.get("gpu", f"{facts['processor']}, {facts['threads']} threads")
    code = f"inbatch {facts['inbatch']}" + (f", commit {_short(facts['commit'])}" if facts["commit"] else "")
    return (
        f"Queries × keys × dimension, temperature τ, {result['regime']} data. Marks: medians of {counted} rounds; whiskers: quartiles; "
        f"÷ first: ratio of medians.\n{where}; torch {facts['torch']}; {code}; {facts['date']}"
    )


def _short(commit: str) -> str:
    return commit[:10] + " with changes" * commit.endswith("+")


def _kind(name: str) -> tuple[str, str]:
    return OURS if name.startswith("inbatch") else PEER


def _digits(value: float) -> str:
    """Write three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"


def _power(value: float, decimals: int) -> str:
    mantissa, _, exponent = f"{value:.{decimals}e}".partition("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"
