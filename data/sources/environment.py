"""A corpus that every machine has: what functions do, and their code, from the Python packages installed on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from inbatch.activity import bars, counting, doing, quiet
from inbatch.cache import cached_table
from inbatch.data.sources import docstrings
from inbatch.errors import UsageError
from inbatch.text.ids import text_id

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")
HELD_OUT = 2000

# Raise it when the split, or what is kept, changes for the same pairs.
_VERSION = 1
# Tests say little about what they test, and copies of other packages would be found twice.
_SKIPPED = {"test", "tests", "_test", "_tests", "vendor", "vendored", "_vendor", "_vendored", "third_party"}
_SKIPPED |= {"extern", "externals", "site-packages", "dist-packages", "node_modules", "__pycache__"}
_LARGEST_GROUP = 8
_SCHEMA = pa.schema(
    {
        "anchor": pa.string(),
        "positive": pa.string(),
        "near_duplicate": pa.bool_(),
        "module": pa.string(),
        "name": pa.string(),
        "file": pa.string(),
        "line": pa.int32(),
        "split": pa.string(),
    }
)


def environment_pairs(
    split: str = "train",
    *,
    seed: int = 0,
    held_out: int = HELD_OUT,
    roots: Sequence[Path] | None = None,
    progress: bool = True,
) -> Dataset:
    r"""Pairs of docstring summary (anchor) and code without docstring (positive) of the packages installed here.

    The standard library and site-packages are read; nothing is imported. Of pairs with equal summaries or equal code the first is
    kept, in the order of the paths. Pairs joined by a chain of equal summaries or code, dropped pairs included, are in the same
    split, so that no text of a held-out part was trained on. The result is a pure function of the installed files, ``seed``
    and ``held_out``. It takes some 20 seconds on two cores the first time, and is cached until the installed files change.

    Args:
        split: ``train``, ``validation`` (choose settings here) or ``test``.
        seed: decides which pairs are held out.
        held_out: pairs in each of ``validation`` and ``test``.
        roots: folders to read; the installation's own by default.
        progress: show a bar while the corpus is built, where stderr is a terminal; see `inbatch.activity` for other places.

    Returns:
        A table with columns anchor, positive, near_duplicate (bool: held out, and the code's 5-gram Jaccard similarity to some
        code of ``train`` is at least 0.7), module, name (qualified, within the module), file, line, split.

    Raises:
        UsageError: if the split is unknown, or there are fewer than ``3 * held_out`` pairs.

    Example:
        >>> from unittest.mock import patch
        >>> Path("shop").mkdir(exist_ok=True)
        >>> code = "def {0}(item):\n    '''Return the {0} price of it.'''\n    return item.{0}\n\n"
        >>> _ = Path("shop/prices.py").write_text("".join(map(code.format, ("net", "gross", "list", "last", "best"))))
        >>> with patch.dict("os.environ", INBATCH_CACHE="cache"):  # the folder that keeps the table
        ...     pairs = environment_pairs("train", roots=[Path("shop")], held_out=1, progress=False)
        >>> len(pairs), pairs[0]["anchor"], pairs[0]["positive"]  # of five pairs one is held out for validation, one for test
        (3, 'Return the net price of it.', 'def net(item):\n    return item.net')
    """
    if split not in SPLITS:
        raise UsageError(f"expected split to be one of {', '.join(SPLITS)} for the source environment; got {split!r}.")
    folders = [Path(root) for root in roots] if roots is not None else package_roots()
    files = list(_list_files(folders))
    versions = (_VERSION, docstrings.VERSION, sys.version_info[:2])
    key = hashlib.sha256(json.dumps([versions, seed, held_out, *files]).encode("utf-8", "surrogateescape")).hexdigest()
    place = hashlib.sha256(json.dumps([str(folder) for folder in folders]).encode()).hexdigest()[:8]

    def make() -> Iterator[pa.RecordBatch]:
        paths = [str(folders[root] / relative) for root, relative, _ in files]
        parsed = _parse(paths, progress)
        modules = [_module_name(relative) for _, relative, _ in files]
        with doing("dividing the pairs of installed packages"):
            yield from _build(modules, paths, parsed, seed, held_out)

    table = cached_table(f"environment-{place}-{seed}-{held_out}", key, _SCHEMA, make)
    # The splits lie one after the other, the training part first.
    bounds = {
        "train": (0, len(table) - 2 * held_out),
        "validation": (len(table) - 2 * held_out, len(table) - held_out),
        "test": (len(table) - held_out, len(table)),
    }
    return table.select(range(*bounds[split]))


def with_neighbours(pairs: Dataset) -> Dataset:
    """Add a column ``neighbour``: the anchor of the module's next pair, cyclically; of a module with one pair, the next module's.

    It is about a like thing and mostly says something else: a hard negative that costs nothing, and now and then a false one.

    Args:
        pairs: what `environment_pairs` returns.

    Example:
        >>> from datasets import Dataset
        >>> pairs = {"anchor": ["Open a file.", "Close a file.", "Add two numbers."], "module": ["files", "files", "sums"]}
        >>> list(with_neighbours(Dataset.from_dict(pairs))["neighbour"])
        ['Close a file.', 'Open a file.', 'Open a file.']
    """
    modules = np.asarray(pairs["module"])
    starts = np.flatnonzero(np.r_[True, modules[1:] != modules[:-1]])
    ends = np.r_[starts[1:], len(modules)]
    following = np.arange(1, len(modules) + 1) % len(modules)
    several = ends - starts > 1
    following[ends[several] - 1] = starts[several]
    anchors = list(pairs["anchor"])
    return pairs.add_column("neighbour", [anchors[i] for i in following])


def package_roots() -> list[Path]:
    """Return the folders of the standard library and of the installed packages, without repetitions.

    Example:
        >>> any(Path(json.__file__).resolve().is_relative_to(root) for root in package_roots())
        True
    """
    paths = sysconfig.get_paths()
    # lib64 is a link to lib on some systems.
    return list(dict.fromkeys(Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")))


def _list_files(roots: Sequence[Path]) -> Iterator[tuple[int, str, int]]:
    """Yield (number of the root, path below it with /, size) of the files to read, in an order that no file system decides."""
    for number, root in enumerate(roots):
        for folder, subfolders, names in os.walk(root):
            below = Path(folder).relative_to(root)
            subfolders[:] = sorted(
                name
                for name in subfolders
                # Ourselves we skip, so that an editable and a normal installation of this package give the same corpus.
                if name not in _SKIPPED and not name.startswith(".") and (below / name).as_posix() != "inbatch"
            )
            for name in sorted(names):
                if not name.endswith(".py") or name.startswith(("test_", ".")):
                    continue
                try:
                    size = os.path.getsize(os.path.join(folder, name))
                except OSError:  # a link that leads nowhere
                    continue
                yield number, (below / name).as_posix(), size


def _module_name(relative: str) -> str:
    return relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _parse(paths: Sequence[str], progress: bool) -> list[list[tuple[str, int, str, str]]]:
    """Read the pairs of each file in as many processes as there are cores, in the order of the paths."""
    from tqdm import tqdm

    results: list[list[tuple[str, int, str, str]]] = [[] for _ in paths]
    waiting = deque(enumerate(paths))
    what, shown = "reading installed packages", progress and bars()
    bar = tqdm(total=len(paths), desc=what, unit="file", mininterval=0.2, disable=not shown)
    said = quiet() if shown else counting(lambda: f"{what}  {len(paths) - len(waiting):,}/{len(paths):,} files")

    def serve() -> None:
        # A session of its own: Ctrl-C is for the parent to handle; the child ends with its input.
        with subprocess.Popen(
            [sys.executable, "-I", str(docstrings.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            while waiting:
                try:
                    index, path = waiting.popleft()
                except IndexError:  # another thread took the last one
                    break
                child.stdin.write(json.dumps(path) + "\n")
                child.stdin.flush()
                answer = child.stdout.readline()
                if not answer:
                    raise RuntimeError(f"the process that reads installed packages ended while it read {path}")
                results[index] = json.loads(answer)
                bar.update()

    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    with said, bar, ThreadPoolExecutor(workers) as pool:
        try:
            for done in [pool.submit(serve) for _ in range(workers)]:
                done.result()
        finally:
            waiting.clear()
    return results


def _build(
    modules: Sequence[str],
    paths: Sequence[str],
    parsed: Sequence[Sequence[tuple[str, int, str, str]]],
    seed: int,
    held_out: int,
) -> Iterator[pa.RecordBatch]:
    """Drop repetitions, split, flag near-duplicates."""
    from inbatch.data.sources.overlap import components, near_duplicates

    rows = [(number, *pair) for number, pairs in enumerate(parsed) for pair in pairs]
    summaries = [row[3].casefold() for row in rows]
    codes = [" ".join(row[4].split()) for row in rows]
    group = components(summaries, codes)
    kept = _first_of_each(summaries, codes)
    if len(kept) < 3 * held_out:
        raise UsageError(
            f"expected at least {3 * held_out} pairs of docstring and code in the installed packages, for {held_out} in each "
            f"held-out part; found {len(kept)}. Install more packages, or set data.sources to a file of your own."
        )
    names = [rows[first][3] for first in group[kept]]
    split = _split(group[kept], names, seed, held_out)
    order = np.argsort(split, kind="stable")
    kept, split = kept[order], split[order]
    near = np.zeros(len(kept), dtype=bool)
    is_train = split == 0
    near[~is_train] = near_duplicates([codes[i] for i in kept[~is_train]], [codes[i] for i in kept[is_train]])
    columns = [
        [rows[i][3] for i in kept],
        [rows[i][4] for i in kept],
        near,
        [modules[rows[i][0]] for i in kept],
        [rows[i][1] for i in kept],
        [paths[rows[i][0]] for i in kept],
        [rows[i][2] for i in kept],
        [SPLITS[part] for part in split],
    ]
    table = pa.table([pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types)], schema=_SCHEMA)
    yield from table.to_batches(max_chunksize=1000)


def _first_of_each(*keys: Sequence[str]) -> np.ndarray:
    """Return the numbers of the rows none of whose keys stood in a row kept before."""
    seen: list[set[str]] = [set() for _ in keys]
    kept = []
    for number, row in enumerate(zip(*keys)):
        if not any(key in column for key, column in zip(row, seen)):
            kept.append(number)
            for key, column in zip(row, seen):
                column.add(key)
    return np.array(kept, dtype=np.int64)


def _split(group: np.ndarray, names: Sequence[str], seed: int, held_out: int) -> np.ndarray:
    """Give whole groups to test, then to validation, until they are full -> (n,) number of the split in `SPLITS`.

    The order is by a hash of each group's name, so that installing another package moves few pairs from split to split. Large
    groups, copies of one function all over a package, stay in train.
    """
    unique, inverse, sizes = np.unique(group, return_inverse=True, return_counts=True)
    name = dict(zip(group.tolist(), names))
    order = sorted(range(len(unique)), key=lambda i: text_id(f"{seed} {name[int(unique[i])]}"))
    part = np.zeros(len(unique), dtype=np.int64)
    position = 0
    for number in (2, 1):
        room = held_out
        while room and position < len(order):
            i = order[position]
            position += 1
            if sizes[i] <= min(room, _LARGEST_GROUP):
                part[i] = number
                room -= sizes[i]
    return part[inverse]
