"""Read the STS sets of SentEval's folder layout, or of the hub, and refuse any that has not the published number of rows.

Nothing of SentEval itself is used. Two traps of its files are handled here: quotes are plain characters (a CSV reader joins rows
at them), and a gold score may be blank (the row is not scored).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inbatch.data.formats.decoding import decode
from inbatch.errors import MissingError, UsageError
from inbatch.hub import offline_if_unreachable
from inbatch.spelling import suggest


@dataclass(frozen=True)
class StsSet:
    """Where one STS set lies, and how large it is.

    Attributes:
        path: folder (with ``subsets``) or tab-separated file, below the data folder.
        rows: scored pairs as published; anything else is refused.
        subsets: names in ``STS.input.<name>.txt`` and ``STS.gs.<name>.txt``.
        columns: of a file: first sentence, second sentence, score.
        header: whether a file's first line names the columns.
        hub: data set of the hub that holds the same pairs, "" where there is none, and its split.

    Example:
        >>> sick = STS_SETS["SICK-R"]
        >>> sick.path, sick.rows, sick.columns
        ('SICK/SICK_test_annotated.txt', 4927, (1, 2, 3))
    """

    path: str
    rows: int
    subsets: tuple[str, ...] = ()
    columns: tuple[int, int, int] = (0, 1, 2)
    header: bool = False
    hub: str = ""
    split: str = "test"


_STSB = {"columns": (5, 6, 4), "hub": "mteb/stsbenchmark-sts"}
_SICK = {"columns": (1, 2, 3), "header": True}

STS_SETS = {
    "STS12": StsSet(
        "STS/STS12-en-test",
        3108,
        ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
        hub="mteb/sts12-sts",
    ),
    "STS13": StsSet("STS/STS13-en-test", 1500, ("FNWN", "headlines", "OnWN"), hub="mteb/sts13-sts"),
    "STS14": StsSet(
        "STS/STS14-en-test",
        3750,
        ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
        hub="mteb/sts14-sts",
    ),
    "STS15": StsSet(
        "STS/STS15-en-test",
        3000,
        ("answers-forums", "answers-students", "belief", "headlines", "images"),
        hub="mteb/sts15-sts",
    ),
    "STS16": StsSet(
        "STS/STS16-en-test",
        1186,
        ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
        hub="mteb/sts16-sts",
    ),
    "STS-B": StsSet("STS/STSBenchmark/sts-test.csv", 1379, **_STSB),
    "SICK-R": StsSet("SICK/SICK_test_annotated.txt", 4927, **_SICK),
    "STS-B-dev": StsSet("STS/STSBenchmark/sts-dev.csv", 1500, split="validation", **_STSB),
    "SICK-R-dev": StsSet("SICK/SICK_trial.txt", 500, **_SICK),
}
"""The seven test sets of the papers' tables, then the two development sets, which enter no average.

The hub's SICK (``mteb/sickr-sts``) is all 9,927 pairs, training part included: no hub set stands for SICK-R here.
"""

TEST_SETS = tuple(name for name in STS_SETS if not name.endswith("-dev"))


@dataclass(frozen=True)
class Pairs:
    """The scored pairs of one set: sentences, gold scores in the set's own unit, and each row's subset ("" if it has none).

    Example:
        >>> pairs = Pairs("STS-B", ["a dog runs"], ["a dog sleeps"], gold=[1.5], subset=[""])
        >>> len(pairs), pairs.gold
        (1, [1.5])
    """

    name: str
    first: list[str]
    second: list[str]
    gold: list[float]
    subset: list[str]

    def __len__(self) -> int:
        return len(self.gold)


def read_folder(folder: str | Path, names: Iterable[str] = tuple(STS_SETS)) -> tuple[list[Pairs], list[str]]:
    r"""Read the named sets that a folder in SentEval's layout has.

    Returns:
        The sets that are there, and the names of those that are not.

    Raises:
        MissingError: if the folder is not there, or a set lacks one of its files.
        UsageError: if a name is unknown, or a file's content is not as published.

    Example:
        >>> rows = ["pair\tfirst\tsecond\tscore", *(f"{number}\ta dog runs\ta dog sleeps\t{number % 5}" for number in range(500))]
        >>> Path("senteval/SICK").mkdir(parents=True, exist_ok=True)
        >>> _ = Path("senteval/SICK/SICK_trial.txt").write_text("\n".join(rows))
        >>> (found,), missing = read_folder("senteval", ["SICK-R-dev", "STS-B"])
        >>> len(found), found.gold[:3], missing
        (500, [0.0, 1.0, 2.0], ['STS-B'])
    """
    root, names = Path(folder), check_names(names)
    if not root.is_dir():
        raise MissingError(f"expected a folder in SentEval's layout at {root}; there is none. {HOW_TO_FETCH}")
    there = [name for name in names if (root / STS_SETS[name].path).exists()]
    return [_read(root, name) for name in there], [name for name in names if name not in there]


def read_hub(names: Iterable[str] = tuple(STS_SETS)) -> tuple[list[Pairs], list[str]]:
    """Load the named sets from the hub: the same pairs, but without subsets, so that only the "all" score can be computed.

    Returns:
        The sets that the hub has, and the names of those that it has not.

    Raises:
        MissingError: if a set can neither be downloaded nor found in the local cache.
        UsageError: if a name is unknown, or a set has not the published number of rows.

    Example:
        >>> read_hub(["SICK-R"])  # which the hub has not by itself
        ([], ['SICK-R'])
    """
    names = check_names(names)
    there = [name for name in names if STS_SETS[name].hub]
    return [_load(name) for name in there], [name for name in names if name not in there]


HOW_TO_FETCH = (
    "Fetch it with `git clone https://github.com/princeton-nlp/SimCSE && cd SimCSE/SentEval/data/downstream && "
    "bash download_dataset.sh`, then give that folder as --data-dir."
)


def check_names(names: Iterable[str]) -> list[str]:
    """Return the names as a list, or say which of them is no STS set.

    Example:
        >>> check_names(("STS-B", "SICK-R"))
        ['STS-B', 'SICK-R']
        >>> check_names(["STSB"])
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected STS sets among STS12, STS13, STS14, STS15, STS16, STS-B, SICK-R, STS-B-dev, SICK-R-dev; got
        STSB. Did you mean STS-B? Set --sets (sets in a configuration).
    """
    names = list(names)
    if unknown := [name for name in names if name not in STS_SETS]:
        near = suggest(unknown[0], STS_SETS) or "."
        raise UsageError(
            f"expected STS sets among {', '.join(STS_SETS)}; got {', '.join(unknown)}{near} Set --sets (sets in a configuration)."
        )
    return names


def _read(root: Path, name: str) -> Pairs:
    known = STS_SETS[name]
    path = root / known.path
    if not known.subsets:
        return _check(name, path, _read_table(path, known), known.rows)
    rows = []
    for subset in known.subsets:
        texts, scores = _lines(path / f"STS.input.{subset}.txt"), _lines(path / f"STS.gs.{subset}.txt")
        if len(texts) != len(scores):
            raise UsageError(
                f"expected as many scores as pairs in subset {subset} of {path}; got {len(scores)} scores and {len(texts)} "
                f"pairs. {HOW_TO_FETCH}"
            )
        for number, (text, score) in enumerate(zip(texts, scores), 1):
            if score.strip():  # a blank score is a pair that nobody rated
                cells = _cells(path / f"STS.input.{subset}.txt", number, text, 2)
                rows.append((*cells[:2], score, subset))
    return _check(name, path, rows, known.rows)


def _read_table(path: Path, known: StsSet) -> list[tuple[str, str, str, str]]:
    lines = _lines(path)
    start = 1 if known.header else 0
    rows = []
    for number, line in enumerate(lines[start:], start + 1):
        cells = _cells(path, number, line, max(known.columns) + 1)
        rows.append((*(cells[column] for column in known.columns), ""))
    return [row for row in rows if row[2].strip()]


def _cells(path: Path, number: int, line: str, least: int) -> list[str]:
    cells = line.split("\t")
    if len(cells) < least:
        raise UsageError(
            f"expected at least {least} columns separated by tabs in line {number} of {path}; got {len(cells)}. {HOW_TO_FETCH}"
        )
    return cells


def _lines(path: Path) -> list[str]:
    try:
        return decode(path.read_bytes(), str(path))[0]
    except FileNotFoundError:
        raise MissingError(f"expected the file {path}; it is not there. {HOW_TO_FETCH}") from None


def _load(name: str) -> Pairs:
    known = STS_SETS[name]
    import datasets

    try:
        with offline_if_unreachable():
            data = datasets.load_dataset(known.hub, split=known.split)
    except (
        OSError,
        ValueError,
    ) as error:  # offline: ConnectionError, or ValueError where the cache has other settings only
        raise MissingError(
            f"expected {name} from the hub's data set {known.hub}; it could be neither downloaded nor found in the cache "
            f"({type(error).__name__}). Fetch it with `hf download --repo-type dataset {known.hub}` where there is a network, "
            "or give a folder in SentEval's layout as --data-dir."
        ) from error
    columns = (data[column] for column in ("sentence1", "sentence2", "score"))
    return _check(name, known.hub, [(*row, "") for row in zip(*columns)], known.rows)


def _check(name: str, where: str | Path, rows: list[tuple], expected: int) -> Pairs:
    if len(rows) != expected:
        raise UsageError(
            f"expected {expected} scored pairs of {name} in {where}, as published; got {len(rows)}. {HOW_TO_FETCH}"
        )
    try:
        gold = [float(row[2]) for row in rows]
    except ValueError as error:
        raise UsageError(f"expected numbers as scores of {name} in {where}; got {error}. {HOW_TO_FETCH}") from None
    # SentEval splits at white space, and the papers' wrappers join the words again by one space.
    first, second = ([" ".join(row[column].split()) for row in rows] for column in (0, 1))
    return Pairs(name, first, second, gold, [row[3] for row in rows])
