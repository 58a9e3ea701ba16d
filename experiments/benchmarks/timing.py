"""Measure side by side: interleaved repetitions in one process, medians with quartiles, ratios, and memory alive at once."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from inbatch.arithmetic import processor
from inbatch.run.provenance import commit

# Quartiles further apart than this share of the median: the median is then no measurement to compare with.
NOISY = 0.5
# Seconds that one square product may take.
LONGEST = 3.0


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant.

    Example:
        >>> timing = Timing((1.0, 2.0, 6.0))
        >>> timing.median, timing.quartiles(), timing.noisy  # quartiles more than half the median apart
        (2.0, (1.5, 4.0), True)
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of the repetitions, seconds."""
        return statistics.median(self.seconds)

    def quartiles(self) -> tuple[float, float]:
        """First and third quartile, seconds; the extremes where there are fewer than three repetitions."""
        if len(self.seconds) < 3:
            return min(self.seconds), max(self.seconds)
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def noisy(self) -> bool:
        """Whether the quartiles are more than half the median apart."""
        low, high = self.quartiles()
        return high - low > NOISY * self.median


def interleave(contestants: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, Timing]:
    """Time each contestant once a round, so that a slow moment of the machine falls on all of them; one round warms up.

    Example:
        >>> turns = []
        >>> timings = interleave({"ours": lambda: turns.append("ours"), "theirs": lambda: turns.append("theirs")}, repetitions=1)
        >>> turns  # one round warms up, one is timed
        ['ours', 'theirs', 'ours', 'theirs']
        >>> len(timings["ours"].seconds)
        1
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    total = (repetitions + 1) * len(contestants)
    with tqdm(total=total, unit="run", disable=not sys.stderr.isatty(), leave=False) as bar:
        for number in range(repetitions + 1):
            for name, run in contestants.items():
                bar.set_description(name)
                begin = time.perf_counter()
                run()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if number:
                    seconds[name].append(time.perf_counter() - begin)
                bar.update()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_bytes(run: Callable[[], Any]) -> int:
    """Return the largest number of bytes that torch held at once during ``run``, beyond what it held before.

    On the CPU the profiler records each allocation and release; on CUDA the allocator counts.

    Example:
        >>> device = "cuda" if torch.cuda.is_available() else "cpu"
        >>> peak_bytes(lambda: torch.zeros(1024, device=device))  # of four bytes each
        4096
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would announce itself on the screen
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    results: Any = profile.profiler.kineto_results if profile.profiler is not None else None
    alive = peak = 0
    for event in sorted(results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def gemm_rate(dtype: torch.dtype, device: str, size: int) -> float:
    """Measure FLOP/s of a square matrix product, the best of three: the ceiling of the same run.

    Where products are so slow that one of that size would take longer than `LONGEST`, a smaller one is measured.

    Example:
        >>> gemm_rate(torch.float32, "cpu", 64) > 1e6  # FLOP/s, not GFLOP/s
        True
    """
    trial = min(size, 512)
    while True:
        a, b = (torch.randn(trial, trial, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)

        def product(a: Tensor = a, b: Tensor = b, out: Tensor = out) -> None:
            torch.mm(a, b, out=out)

        seconds = min(interleave({"gemm": product}, 1 if trial < size else 3)["gemm"].seconds)
        if trial == size or 8 * seconds > LONGEST:
            return 2 * trial**3 / seconds
        trial = min(2 * trial, size)


def machine() -> dict[str, Any]:
    """Say what was measured, when and on what.

    Example:
        >>> [fact for fact in machine() if fact != "gpu"]
        ['processor', 'threads', 'python', 'torch', 'inbatch', 'commit', 'date']
    """
    import inbatch

    facts = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "inbatch": inbatch.__version__,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def rows(timings: dict[str, Timing], ours: str, work: float | None = None) -> list[list[str]]:
    """Lay out timings for a table: name, median, quartiles, ratio to ours, and useful GFLOP/s where ``work`` is given.

    Quartiles of a noisy timing have an asterisk.

    Example:
        >>> timings = {"ours": Timing((0.1, 0.1, 0.1)), "autograd": Timing((0.2, 0.2, 0.2))}
        >>> rows(timings, "ours", work=4e9)  # 4 GFLOP in 0.1 s
        [['ours', '0.100', '0.100–0.100', '1.00×', '40'], ['autograd', '0.200', '0.200–0.200', '2.00×', '20']]
    """
    lines = []
    for name, timing in timings.items():
        low, high = timing.quartiles()
        quartiles = f"{low:.3f}–{high:.3f}" + "*" * timing.noisy
        line = [name, f"{timing.median:.3f}", quartiles, f"{timing.median / timings[ours].median:.2f}×"]
        lines.append(line if work is None else [*line, f"{work / timing.median / 1e9:.0f}"])
    return lines


def summary(timings: dict[str, Timing], ours: str) -> dict[str, Any]:
    """Give the same for JSON.

    Example:
        >>> found = summary({"ours": Timing((0.1, 0.1, 0.1)), "autograd": Timing((0.2, 0.2, 0.2))}, "ours")
        >>> found["autograd"]["median_s"], found["autograd"]["ratio_to_ours"]
        (0.2, 2.0)
    """
    return {
        name: {
            "median_s": timing.median,
            "quartiles_s": timing.quartiles(),
            "ratio_to_ours": timing.median / timings[ours].median,
            "noisy": timing.noisy,
            "seconds": timing.seconds,
        }
        for name, timing in timings.items()
    }


def notes(absent: Sequence[str]) -> str:
    """Name the peers that were skipped.

    Example:
        >>> notes(["Liger (pip install liger-kernel)", "QuACK at 65536 rows (out of memory)"])
        'Skipped: Liger (pip install liger-kernel); QuACK at 65536 rows (out of memory).'
    """
    return "Skipped: " + "; ".join(absent) + "." if absent else ""


def warn_of_noise(timings: dict[str, Timing]) -> None:
    """Name the noisy contestants on stderr; nothing where there are none.

    Example:
        >>> from contextlib import redirect_stderr
        >>> with redirect_stderr(sys.stdout):
        ...     warn_of_noise({"ours": Timing((1.0, 1.0, 1.0)), "autograd": Timing((1.0, 2.0, 6.0))})
        noisy: quartiles more than 50% of the median apart (* in a table): autograd 1.5–4 s. Repeat on an idle machine.
    """
    noisy = {name: timing.quartiles() for name, timing in timings.items() if timing.noisy}
    if noisy:
        found = "; ".join(f"{name} {low:.3g}–{high:.3g} s" for name, (low, high) in noisy.items())
        print(
            f"noisy: quartiles more than {NOISY:.0%} of the median apart (* in a table): {found}. Repeat on an idle machine.",
            file=sys.stderr,
        )
