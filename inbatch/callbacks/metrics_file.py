"""The logger of ``metrics.jsonl``: one JSON object a line, readable without any plotting tool."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from inbatch.files import replace_file


class MetricsFile(Logger):
    """Append each set of numbers with its step; what a dead run wrote beyond its last checkpoint is cut off first.

    Args:
        path: of the file; its folder exists when the first numbers come.
        last_step: keep what is in the file up to this step; None starts an empty file.

    Example:
        >>> numbers = MetricsFile("numbers.jsonl")
        >>> numbers.log_metrics({"train/loss": 0.5}, step=10)
        >>> numbers.log_metrics({"train/loss": math.nan}, step=20)
        >>> numbers.finalize("success")
        >>> print(Path("numbers.jsonl").read_text(), end="")
        {"step": 10, "train/loss": 0.5}
        {"step": 20, "train/loss": null}
    """

    def __init__(self, path: str | Path, last_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.last_step = -1 if last_step is None else last_step
        self._file: IO[str] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """None is needed: a run folder holds one run."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append ``{"step": step, **metrics}``; a number that is not finite becomes null, as JSON has none."""
        if self._file is None:
            cut(self.path, self.last_step)
            self._file = self.path.open("a", encoding="utf8")
        numbers = {tag: float(value) for tag, value in metrics.items()}
        clean = {tag: value if math.isfinite(value) else None for tag, value in numbers.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder holds config.yaml."""

    @rank_zero_only
    def save(self) -> None:
        """Force to the disk what was written."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; later numbers open it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.last_step = 2**62


def read(path: str | Path) -> list[dict[str, Any]]:
    r"""Read the lines of a metrics file, leaving out a last one that was cut short by the death of its writer; none without a file.

    Example:
        >>> _ = Path("died.jsonl").write_text('{"step": 10, "train/loss": 0.5}\n{"step": 20, "tra')
        >>> read("died.jsonl")
        [{'step': 10, 'train/loss': 0.5}]
        >>> read("there is none.jsonl")
        []
    """
    lines = []
    for text in Path(path).read_text(encoding="utf8").splitlines() if Path(path).exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def cut(path: str | Path, last_step: int) -> None:
    r"""Keep of a metrics file what is whole and not beyond ``last_step``; the final test is left to be made again.

    Example:
        >>> _ = Path("resumed.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in (10, 20, 30)))
        >>> cut("resumed.jsonl", last_step=20)
        >>> read("resumed.jsonl")
        [{'step': 10}, {'step': 20}]
    """
    path = Path(path)
    if path.exists():
        kept = [
            line
            for line in read(path)
            if line["step"] <= last_step and not any(tag.startswith("test/") for tag in line)
        ]
        with replace_file(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
