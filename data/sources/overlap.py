"""Find what two parts of a corpus share: chains of equal texts, and nearly equal texts."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

_TOKEN = re.compile(r"\w+|[^\w\s]", re.ASCII)
_BUCKET_BITS = 24
_PAIRS_AT_ONCE = 100_000


def components(*keys: Sequence[Hashable]) -> np.ndarray:
    """Label rows so that two rows have the same label exactly if a chain of equal keys joins them.

    Args:
        keys: columns of n keys each; rows with equal keys in one column are joined.

    Returns:
        (n,) int64: the smallest row number of each row's component.

    Example:
        >>> components(["Open it.", "Open it.", "Close it.", "Wait."], ["f.open()", "f.show()", "f.show()", "sleep()"]).tolist()
        [0, 0, 0, 3]
    """
    count = len(keys[0])
    nodes, end = [], count
    for column in keys:
        numbers: dict[Hashable, int] = {}
        nodes.append(end + np.array([numbers.setdefault(key, len(numbers)) for key in column], dtype=np.int64))
        end += len(numbers)
    edges = (np.tile(np.arange(count), len(keys)), np.concatenate(nodes))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(end, end))
    labels = connected_components(graph, directed=False)[1][:count]
    first = np.full(labels.max(initial=-1) + 1, count)
    np.minimum.at(first, labels, np.arange(count))
    return first[labels]


def near_duplicates(texts: Sequence[str], others: Sequence[str], threshold: float = 0.7, size: int = 5) -> np.ndarray:
    """Find the texts that nearly equal some other text: Jaccard similarity of their sets of shingles at the threshold or above.

    A shingle is a run of ``size`` tokens; a token is an ASCII word or a single other mark, and a text of fewer tokens is filled up
    with empty ones. Equivalent to ``[any(|a ∩ b| >= threshold·|a ∪ b| for b in others) for a in texts]``. A pair that counts
    shares at least ``threshold·|a|`` of a's shingles, hence one of the rarest ``|a| − ceil(threshold·|a|) + 1``: only pairs that
    meet there are compared.

    Args:
        texts: n strings to judge.
        others: m strings to compare them with.
        threshold: in (0, 1].
        size: tokens a shingle.

    Returns:
        (n,) bool.

    Example:
        >>> texts = ["red leather shoes for men", "blue hat"]
        >>> near_duplicates(texts, ["men wear red leather shoes"], size=1, threshold=0.6).tolist()  # 4 of 6 words are shared
        [True, False]
    """
    vocabulary: dict[str, int] = {}
    hashes, rows = _shingle(texts, vocabulary, size)
    known, column = np.unique(hashes, return_inverse=True)
    ours = _indicator(rows, column, (len(texts), len(known)))
    other_hashes, other_rows = _shingle(others, vocabulary, size)
    column, found = _look_up(other_hashes, known)
    theirs = _indicator(other_rows[found], column, (len(others), len(known)))

    ours_size = np.diff(ours.indptr)
    needed = np.ceil(threshold * ours_size - 1e-9).astype(np.int64)
    frequency = np.bincount(theirs.indices, minlength=len(known))
    rare = _indicator(*_rarest(ours, frequency, ours_size - needed + 1), (len(texts), len(known)))
    candidates = (rare @ theirs.T.tocsr()).tocoo()
    a, b = candidates.row, candidates.col
    common = np.zeros(len(a), dtype=np.int64)
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        common[part] = np.asarray(ours[a[part]].multiply(theirs[b[part]]).sum(axis=1)).ravel()
    enough = common >= needed[a]
    a, b, common = a[enough], b[enough], common[enough]
    others_size = _distinct(other_hashes, other_rows, b, len(others))
    near = np.zeros(len(texts), dtype=bool)
    near[a[common >= threshold * (ours_size[a] + others_size[b] - common) - 1e-9]] = True
    return near


def _shingle(texts: Sequence[str], vocabulary: dict[str, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash all runs of ``size`` tokens -> (w,) uint64, and the text that each stands in, (w,) int64; extends the vocabulary."""
    tokens = [_TOKEN.findall(text) for text in texts]
    tokens = [part if len(part) >= size else part + [""] * (size - len(part)) for part in tokens]
    lengths = np.array([len(part) for part in tokens], dtype=np.int64)
    numbers = np.fromiter(
        (vocabulary.setdefault(token, len(vocabulary)) for part in tokens for token in part),
        dtype=np.uint64,
        count=lengths.sum(),
    )
    factors = np.random.default_rng(0).integers(2**62, 2**63, size=size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    count = max(len(numbers) - size + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for position in range(size):
        hashes += numbers[position : position + count] * factors[position]
    rows = np.repeat(np.arange(len(texts)), lengths)
    inside = rows[:count] == rows[size - 1 :]
    return hashes[inside], rows[:count][inside]


def _look_up(hashes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find hashes in a sorted array: positions of those that are there, and (w,) bool which are."""
    shift = np.uint64(64 - _BUCKET_BITS)
    # Most hashes are unknown; one look into a table of buckets spares them the binary search.
    bucket = np.zeros(1 << _BUCKET_BITS, dtype=bool)
    bucket[(known >> shift).astype(np.int64)] = True
    maybe = bucket[(hashes >> shift).astype(np.int64)].nonzero()[0]
    position = np.searchsorted(known, hashes[maybe])
    position[position == len(known)] = 0
    hit = known[position] == hashes[maybe] if len(known) else np.zeros(len(maybe), dtype=bool)
    found = np.zeros(len(hashes), dtype=bool)
    found[maybe[hit]] = True
    return position[hit], found


def _indicator(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    matrix = csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _rarest(matrix: csr_array, frequency: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the ``keep`` entries of each row whose columns are least frequent."""
    rows = np.repeat(np.arange(len(keep)), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, frequency[matrix.indices], rows))
    kept = np.arange(len(order)) - matrix.indptr[rows] < keep[rows]
    return rows[kept], matrix.indices[order][kept]


def _distinct(hashes: np.ndarray, rows: np.ndarray, wanted: np.ndarray, count: int) -> np.ndarray:
    """Count the distinct hashes of the wanted rows -> (count,) int64, 0 for the others."""
    is_wanted = np.zeros(count, dtype=bool)
    is_wanted[wanted] = True
    kept = is_wanted[rows]
    order = np.lexsort((hashes[kept], rows[kept]))
    rows, hashes = rows[kept][order], hashes[kept][order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    return np.bincount(rows[new], minlength=count)
