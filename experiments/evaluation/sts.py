"""Semantic textual similarity as the papers report it: Spearman × 100 between cosine and gold score, in the "all" setting."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inbatch.errors import MissingError, TrainingError
from inbatch.experiments.command import add_encoder_arguments, describe_encoder, headline, load_encoder
from inbatch.experiments.evaluation import senteval
from inbatch.experiments.evaluation.senteval import STS_SETS, TEST_SETS, Pairs
from inbatch.experiments.output import add_output_arguments, prepare_file, report, table
from inbatch.metrics import require_finite, spearman
from inbatch.norms import SMALLEST_NORM


@dataclass(frozen=True)
class StsScore:
    """Spearman × 100 of one set.

    Attributes:
        pairs: number of scored pairs.
        all: over all pairs at once, subsets concatenated: what SimCSE and its successors print, and the headline here; NaN where all
            cosines are equal, as where every embedding is zero.
        mean: mean over subsets; equal to ``all`` for a set of one part; None where the source does not name the subsets.
        wmean: the same, weighted by the subsets' numbers of pairs.

    Example:
        >>> found = StsScore(pairs=1500, all=78.2, mean=76.0, wmean=76.8)
        >>> round(found.all - found.mean, 1)  # never compare across the settings
        2.2
    """

    pairs: int
    all: float
    mean: float | None
    wmean: float | None


def score(encoder: Any, pairs: Pairs, **encode: Any) -> StsScore:
    """Score an encoder on one set; ``encode`` is handed on to `Encoder.encode`.

    The cosine is computed in float32 and compared directly, without a regression head. A zero embedding has cosine 0.

    Raises:
        TrainingError: if an embedding is not finite.

    Example:
        >>> from types import SimpleNamespace
        >>> vectors = {"dog": [1.0, 0.0], "hound": [0.9, 0.1], "wolf": [0.6, 0.4], "car": [0.0, 1.0]}
        >>> encoder = SimpleNamespace(encode=lambda texts: torch.tensor([vectors[text] for text in texts]))
        >>> pairs = Pairs("SICK-R", ["dog"] * 3, ["hound", "wolf", "car"], gold=[5.0, 3.0, 0.0], subset=[""] * 3)
        >>> round(score(encoder, pairs).all, 2)  # in the order of people's scores
        100.0
    """
    texts = sorted({*pairs.first, *pairs.second})  # many sentences come several times
    place = {text: index for index, text in enumerate(texts)}
    embedding = require_finite(encoder.encode(texts, **encode).float())
    first, second = (embedding[[place[text] for text in side]] for side in (pairs.first, pairs.second))
    cosine = torch.nn.functional.cosine_similarity(first, second, eps=SMALLEST_NORM)  # (n,)
    gold = torch.tensor(pairs.gold, dtype=torch.float64)
    over_all = 100 * spearman(cosine, gold)
    names = sorted(set(pairs.subset))
    if names == [""]:
        flat = bool(STS_SETS[pairs.name].subsets)
        return StsScore(len(pairs), over_all, *((None, None) if flat else (over_all, over_all)))
    rows = [[i for i, subset in enumerate(pairs.subset) if subset == name] for name in names]
    parts = [100 * spearman(cosine[r], gold[r]) for r in rows]
    weighted = sum(part * len(r) for part, r in zip(parts, rows)) / len(pairs)
    return StsScore(len(pairs), over_all, sum(parts) / len(parts), weighted)


def average(scores: Iterable[float | None]) -> float | None:
    """Average as papers do, from scores rounded to two decimals; None unless all seven test sets are there.

    Example:
        >>> average([70.0, 72.0, 74.0, 76.0, 78.0, 80.0, 82.0])
        76.0
        >>> average([70.0, 72.0]) is None  # of some sets papers give no average
        True
    """
    rounded = [None if s is None else round(s, 2) for s in scores]
    known = [s for s in rounded if s is not None]
    return sum(known) / len(known) if len(rounded) == len(known) == len(TEST_SETS) else None


class Sts:
    r"""Evaluator of STS, for the command and for training; the files are read and checked when it is made.

    Args:
        data_dir: folder in SentEval's layout (it holds ``STS`` and ``SICK``); None loads from the hub.
        sets: names of `senteval.STS_SETS`, all of which must be there; None takes those that are, and ``missing`` names the rest.
        max_length: tokens kept of each text; None truncates only at the model's own limit.
        token_budget: padded tokens in one batch.
        progress: show a bar while encoding.

    Raises:
        MissingError: if no set, or not each of ``sets``, is there.
        UsageError: if a set's content is not as published.

    Example:
        >>> from pathlib import Path
        >>> rows = ["pair\tfirst\tsecond\tscore", *(f"{number}\ta dog runs\ta dog sleeps\t{number % 5}" for number in range(500))]
        >>> Path("senteval/SICK").mkdir(parents=True, exist_ok=True)
        >>> _ = Path("senteval/SICK/SICK_trial.txt").write_text("\n".join(rows))
        >>> evaluator = Sts("senteval")
        >>> [pairs.name for pairs in evaluator.sets], len(evaluator.missing)
        (['SICK-R-dev'], 8)
    """

    def __init__(
        self,
        data_dir: str | None = None,
        sets: Sequence[str] | None = None,
        max_length: int | None = None,
        token_budget: int = 16384,
        progress: bool = False,
    ):
        names = tuple(sets) if sets else tuple(STS_SETS)
        self.source = data_dir or "hub"
        self.sets, self.missing = senteval.read_folder(data_dir, names) if data_dir else senteval.read_hub(names)
        if not self.sets or (sets and self.missing):
            raise MissingError(
                f"expected {', '.join(self.missing if sets else names)} in {self.source}; not there. "
                f"{senteval.HOW_TO_FETCH if data_dir else 'The hub has no such set in the split that papers use: give --data-dir.'}"
            )
        self._encode = {"max_length": max_length, "token_budget": token_budget, "progress": progress}

    def check(self, encoder: Any) -> None:
        """Embed one sentence, to learn early whether that can be done.

        Raises:
            UsageError: if not, as where the default prompt has a place for an instruction and there is none.
        """
        encoder.encode(self.sets[0].first[:1], **self._encode | {"progress": False})

    def scores(self, encoder: Any) -> dict[str, StsScore]:
        """Score every set, by name."""
        return {pairs.name: score(encoder, pairs, **self._encode) for pairs in self.sets}

    def __call__(self, encoder: Any) -> dict[str, float]:
        """Return each set's "all" score by name, such as ``STS-B-dev``, and ``avg`` where all seven test sets are there."""
        scores = self.scores(encoder)
        numbers = {name: s.all for name, s in scores.items()}
        mean = average(scores[name].all for name in TEST_SETS if name in scores)
        return numbers if mean is None else {**numbers, "avg": mean}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``inbatch evaluate sts``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["minilm", "--data-dir", "senteval"])
        >>> args.path, args.data_dir, args.sets
        ('minilm', 'senteval', None)
    """
    parser.description = (
        "Spearman correlation (x 100) between the cosine of two sentences' embeddings and people's scores,\n"
        "on STS12-16, STS-B and SICK-R. The column `all` concatenates a set's subsets, which is what SimCSE and its\n"
        "successors print; `mean` and `wmean` average over subsets, as other papers do: never compare across columns."
    )
    parser.epilog = (
        "examples:\n  inbatch evaluate sts minilm --data-dir SentEval/data/downstream\n"
        "  inbatch evaluate sts runs/my-run/export --sets STS-B-dev --json"
    )
    add_encoder_arguments(parser)
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder in SentEval's layout (it holds STS/ and SICK/); without it the sets come from the Hugging Face hub, which has "
        "no subsets and no SICK-R test split",
    )
    parser.add_argument("--sets", nargs="+", metavar="SET", help=f"only these, all required: {', '.join(STS_SETS)}")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate one model and print its scores.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["minilm", "--data-dir", "no/such/folder"]))
        Traceback (most recent call last):
        inbatch.errors.MissingError: expected a folder in SentEval's layout at no/such/folder; there is none. Fetch it with
        `git clone https://github.com/princeton-nlp/SimCSE && cd SimCSE/SentEval/data/downstream && bash download_dataset.sh`,
        then give that folder as --data-dir.
    """
    prepare_file(args.out)
    evaluator = Sts(args.data_dir, args.sets, args.max_length, args.token_budget, progress=True)
    encoder = load_encoder(args, None)
    scores = evaluator.scores(encoder)
    for name, found in scores.items():
        if math.isnan(found.all):
            raise TrainingError(
                f"expected cosines that differ, to correlate them with people's scores; those of all {found.pairs:,} pairs of {name} are "
                f"equal: {args.path} embeds every text at one point, or at zero. Check its weights and --pooling."
            )
    tests = [scores[name] for name in TEST_SETS if name in scores]
    means = {column: average(getattr(s, column) for s in tests) for column in ("all", "mean", "wmean")}
    result = {
        **describe_encoder(args.path, encoder),
        "source": evaluator.source,
        "pairs": sum(s.pairs for s in scores.values()),
        "metric": "spearman of cosine x 100",
        "sets": {name: vars(s) for name, s in scores.items()},
        "avg": means,
        "skipped": evaluator.missing,
    }
    report(args, result, _screen(result))
    if evaluator.missing:
        print(f"skipped, not in {evaluator.source}: {', '.join(evaluator.missing)}", file=sys.stderr)


def _screen(result: dict[str, Any]) -> str:
    rows = [
        [name, f"{s['pairs']:,}", *(_number(s[column]) for column in ("all", "mean", "wmean"))]
        for name, s in sorted(result["sets"].items(), key=lambda item: item[0].endswith("-dev"))
    ]
    tests = [name for name in TEST_SETS if name in result["sets"]]
    if len(tests) == len(TEST_SETS):
        place = len(tests)
        rows.insert(place, ["Avg of 7", "", *(_number(result["avg"][column]) for column in ("all", "mean", "wmean"))])
        note = "Avg: of the scores rounded to two decimals, test sets only, as papers compute it."
    else:
        note = f"No average: that is over all {len(TEST_SETS)} test sets, "
        absent = [name for name in TEST_SETS if name in result["skipped"]]
        if absent:
            note += f"and {', '.join(absent)} {'are' if len(absent) > 1 else 'is'} not here. --data-dir takes a folder that has all."
        else:
            note += f"of which --sets names {len(tests) or 'none'}."
    if "SICK-R" in result["sets"]:
        note += f" SICK-R: SentEval's test part of {result['sets']['SICK-R']['pairs']:,} pairs, not the 9,927 of MTEB."
    title = (
        f"{headline(result)}\nSTS: Spearman x 100 of the cosine over {result['pairs']:,} pairs from {result['source']}; "
        "`all` is the headline"
    )
    return table(title, ["set", "pairs", "all", "mean", "wmean"], rows, note)


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
