"""The picture of a benchmark is drawn, is complete and legible, and matplotlib is asked for before the work."""

import itertools
import math
import struct

import pytest

from inbatch import cli
from inbatch.experiments.benchmarks import kernels as bench_kernels
from inbatch.experiments.benchmarks import plots


@pytest.fixture(autouse=True)
def square(monkeypatch):
    """A ceiling that costs nothing, whatever the processor."""
    monkeypatch.setitem(bench_kernels.SQUARE, "cpu", 128)


SMALL = ["bench", "kernels", "--rows", "16", "--dim", "8", "--repetitions", "1", "--only-ours"]
NAMES = [
    "inbatch float32", "inbatch bfloat16", "autograd cross_entropy", "torch linear_cross_entropy, chunk 2048",
    "sentence-transformers cached, mini-batch 1024",
]  # fmt: skip


def timing(median, spread, first):
    return {
        "median_s": median, "quartiles_s": (median * (1 - spread / 2), median * (1 + spread / 2)), "noisy": spread > 0.5,
        "ratio_to_ours": median / first, "seconds": [median] * 9,
    }  # fmt: skip


def shape(rows, medians, spread=0.1):
    first = next(iter(medians.values()))
    timings = {name: timing(median, spread, first) for name, median in medians.items()}
    return {"rows": rows, "dim": 1024, "temperature": 0.05, "timings": timings}


def result(*shapes, errors=(1.2e-6, 2.3e-3, 8.2e-3, 1e-2, 3.7e-2)):
    return {
        "machine": {
            "processor": "AMD EPYC 9B14", "threads": 2, "torch": "2.13.0+cpu", "inbatch": "0.1.0", "date": "2026-11-21",
            "commit": "0123456789abcdef+",
        },
        "regime": "random",
        "gate": {name: {"gradient": {"converged": error}} for name, error in zip(NAMES, errors)},
        "shapes": list(shapes),
    }  # fmt: skip


SECONDS = dict(zip(NAMES, (0.48, 0.366, 2.0, 0.962, 2.0)))


@pytest.fixture
def draw():
    """Lay out the picture of a result; the texts of each panel, of the footnote and of the legend, as they are written."""
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context(plots.STYLE):

        def of(found):
            figure = plots.picture(found)
            figure.canvas.draw()
            return figure

        yield of


def texts(artist):
    from matplotlib.text import Text

    return [text for text in artist.findobj(Text) if text.get_visible() and text.get_text()]


def written(artist):
    return [text.get_text() for text in texts(artist)]


def marks(axes):
    return [(c.lines[0].get_xdata()[0], c.lines[0].get_markerfacecolor()) for c in axes.containers]


def test_axes_have_units_numbers_and_whiskers(draw):
    times, errors = draw(result(shape(8192, SECONDS))).axes
    assert times.get_xlabel() == "time (s, log scale)"
    assert errors.get_xlabel() == "relative error (log scale)"
    assert {"8192 × 8192 × 1024, τ = 0.05" in text for text in written(times)} == {True, False}
    assert {"0.480", "1.00×", "0.366", "0.76×", "2.00", "4.17×", "s", "÷ first"} <= set(written(times))
    assert r"$1.2\times10^{-6}$" in written(errors)
    assert [median for median, _ in marks(times)] == list(SECONDS.values())
    (whisker,) = times.containers[0].lines[2]
    assert whisker.get_segments()[0][:, 0] == pytest.approx([0.456, 0.504])
    assert [len(c.lines[2]) for c in errors.containers] == [0] * len(NAMES)
    assert times.get_xscale() == errors.get_xscale() == "log"


def test_no_mark_stands_on_the_edge(draw):
    figure = draw(result(shape(64, SECONDS), errors=(1e-6, 1e-5, 1e-4, 1e-3, 0.5)))
    for axes in figure.axes:
        left, right = axes.transData.transform([(x, 0) for x in axes.get_xlim()])[:, 0]
        for median, _ in marks(axes):
            assert left + 3 < axes.transData.transform((median, 0))[0] < right - 3


@pytest.mark.parametrize(
    ("first", "unit", "number"), [(3.2, "s", "3.20"), (0.0037, "ms", "3.70"), (4e-5, "µs", "40.0"), (1234, "s", "1234")]
)
def test_the_unit_is_that_of_the_first(draw, first, unit, number):
    times = draw(result(shape(64, {NAMES[0]: first}))).axes[0]
    assert times.get_xlabel() == f"time ({unit}, log scale)"
    assert number in written(times)


def test_ours_and_others_differ_in_colour_and_marker_and_the_legend_says_so(draw):
    figure = draw(result(shape(8192, SECONDS)))
    assert written(figure.legends[0]) == ["inbatch", "others", "median of the first"]
    styles = [(c.lines[0].get_marker(), c.lines[0].get_color()) for c in figure.axes[0].containers]
    assert styles == [plots.OURS, plots.OURS, *[plots.PEER] * 3]
    handles = figure.legends[0].legend_handles[:2]
    assert [(handle.get_marker(), handle.get_color()) for handle in handles] == [plots.OURS, plots.PEER]


def test_noisy_medians_are_hollow(draw):
    found = shape(8192, SECONDS)
    found["timings"][NAMES[1]] = timing(0.366, 0.6, 0.48)
    figure = draw(result(found))
    assert [face == "white" for _, face in marks(figure.axes[0])] == [False, True, False, False, False]
    assert any("noisy: quartiles more than 50%" in text for text in written(figure.legends[0]))


def test_the_footnote_says_what_was_measured_where_and_when(draw):
    found = result(shape(8192, SECONDS))
    note = draw(found).get_supxlabel()
    for part in (
        "random data",
        "9 rounds",
        "EPYC 9B14, 2 threads",
        "torch 2.13.0+cpu",
        "commit 0123456789 with changes;",
        "2026-11-21",
    ):
        assert part in note
    found["machine"] |= {"gpu": "NVIDIA H200", "commit": None}
    note = draw(found).get_supxlabel()
    assert "NVIDIA H200; torch" in note
    assert "commit" not in note


def test_panels_of_a_row_share_their_contestants(draw):
    few = dict(itertools.islice(SECONDS.items(), 1))
    some = dict(itertools.islice(SECONDS.items(), 2))
    a, b, c, d = draw(
        result(shape(1024, SECONDS), shape(65536, SECONDS), shape(262144, some), shape(1 << 20, few))
    ).axes[:4]
    for left, right in ((a, b), (c, d)):
        assert not [label for label in right.get_yticklabels() if label.get_visible()]
        assert left.get_ylim() == right.get_ylim()
    assert [label.get_text() for label in c.get_yticklabels()] == NAMES[:2]
    assert "not run" in written(d)


def test_what_has_no_logarithm_is_told_as_a_number(draw):
    errors = draw(result(shape(64, SECONDS), errors=(1e-6, math.nan, 0.0, math.inf, 2e-6))).axes[1]
    assert len(errors.containers) == 2
    assert {"nan", "0", "inf", "$10^{-6}$", r"$2\times10^{-6}$"} <= set(written(errors))


@pytest.mark.parametrize(
    "shapes",
    [
        [shape(8192, SECONDS)],
        [shape(64, {name: 5e-5 * 12**i for i, name in enumerate(NAMES)}, spread=1.2)],
        [shape(rows, SECONDS, spread=1.2) for rows in (16384, 65536, 262144, 1 << 20)],
        [shape(1 << 20, {NAMES[0]: 12.0})],
    ],
)
def test_nothing_is_cut_off_or_written_over_something_else(draw, shapes):
    figure = draw(result(*shapes))
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert len(boxes) > 20
    for text, box in boxes:
        assert figure.bbox.x0 < box.x0 < box.x1 < figure.bbox.x1, text
        assert figure.bbox.y0 < box.y0 < box.y1 < figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (one, other)


def test_a_benchmark_is_drawn_in_print_resolution(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "times.png"
    assert cli.main([*SMALL, "--plot", str(path)]) == 0
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", path.read_bytes()[16:20]) == (2025,)


def test_a_picture_of_another_kind_is_refused(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main([*SMALL, "--plot", str(tmp_path / "times.pdf")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_without_matplotlib_nothing_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert cli.main([*SMALL, "--plot", str(tmp_path / "times.png")]) == 3
    assert "pip install 'inbatch[plot]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
