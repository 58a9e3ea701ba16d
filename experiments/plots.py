"""Pictures of what commands measured; matplotlib is an extra, and only loaded here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inbatch.errors import MissingError
from inbatch.files import replace_file

OURS, PEER = "#1f6f8b", "#b8b8b8"


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib, before the long work.

    Raises:
        MissingError: with the command that installs it.
    """
    if find_spec("matplotlib") is None:
        raise MissingError("expected matplotlib for --plot; it is not installed. Run `pip install matplotlib`.")


def draw_benchmark(result: dict[str, Any], path: Path) -> None:
    """Draw a `bench kernels` result: one panel of times a shape, and one of gradient errors where the loss has converged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shapes, gate = result["shapes"], result["gate"]
    panels = len(shapes) + 1
    figure = Figure(figsize=(10, 0.8 + panels * (0.6 + 0.3 * len(gate))), layout="constrained")
    FigureCanvasAgg(figure)
    for number, shape in enumerate(shapes):
        axes = figure.add_subplot(panels, 1, number + 1)
        medians = {name: t["median_s"] for name, t in shape["timings"].items()}
        spread = [
            [m - t["quartiles_s"][0] for m, t in zip(medians.values(), shape["timings"].values())],
            [t["quartiles_s"][1] - m for m, t in zip(medians.values(), shape["timings"].values())],
        ]
        bars = axes.barh(list(medians), list(medians.values()), xerr=spread, color=_colours(medians), capsize=2)
        axes.bar_label(bars, [f" {value:.3g} s" for value in medians.values()], padding=6, fontsize=8)
        axes.set_title(
            f"{shape['rows']} × {shape['rows']} × {shape['dim']}, temperature {shape['temperature']}: "
            "seconds forward and backward, median and quartiles",
            fontsize=10, loc="left",
        )  # fmt: skip
        _finish(axes)
    axes = figure.add_subplot(panels, 1, panels)
    errors = {name: found["gradient"]["converged"] for name, found in gate.items()}
    bars = axes.barh(list(errors), list(errors.values()), color=_colours(errors))
    axes.bar_label(bars, [f" {value:.1e}" for value in errors.values()], padding=2, fontsize=8)
    axes.set_xscale("log")
    axes.set_title("relative error of the gradients where the loss is about 1e-6", fontsize=10, loc="left")
    _finish(axes)
    facts = result["machine"]
    figure.suptitle(
        f"InfoNCE on {facts.get('gpu', facts['processor'])}, torch {facts['torch']}, {facts['date']}", fontsize=11
    )
    with replace_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _colours(names: Any) -> list[str]:
    return [OURS if name.startswith("inbatch") else PEER for name in names]


def _finish(axes: Any) -> None:
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
