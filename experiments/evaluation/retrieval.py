"""Retrieval over pairs: each query against all documents of its split, with MRR, recall@k and nDCG@10."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inbatch import metrics
from inbatch.data.sources.sources import ENVIRONMENT, Source
from inbatch.errors import UsageError
from inbatch.experiments.command import add_encoder_arguments, describe_encoder, headline, load_encoder
from inbatch.experiments.evaluation.corpus import Judged, add_source_arguments, read_judged, source_arguments
from inbatch.experiments.output import add_output_arguments, prepare_file, report, table
from inbatch.norms import unit_rows
from inbatch.text.templates import INSTRUCTION

CUTOFFS = (1, 10, 100)


@dataclass(frozen=True)
class Task:
    """Queries, documents, and which belong together; equal texts are one.

    Attributes:
        queries: q texts, each once.
        documents: n texts, each once.
        relevant: (q, r) int64 indices into ``documents``, padded by -1.
        near_duplicate: (q,) bool, True where every row of the query is flagged; None if the source has no flags.
        gain: (q, r) float64, what each relevant document is worth; 0 where ``relevant`` is padding.
        unanswered: number of queries that were left out because none of their documents is relevant.
        answers: number of rows whose documents are relevant.

    Example:
        >>> rows = Judged("weather", ["fog", "wind", "fog"], [["a cloud"], ["moving air"], ["mist"]], ["a wine"], None)
        >>> task = Task.of(rows)
        >>> task.queries, task.documents
        (['fog', 'wind'], ['a cloud', 'moving air', 'mist', 'a wine'])
        >>> task.relevant
        tensor([[ 0,  2],
                [ 1, -1]])
    """

    queries: list[str]
    documents: list[str]
    relevant: Tensor
    near_duplicate: Tensor | None
    gain: Tensor
    unanswered: int
    answers: int

    @classmethod
    def of(cls, rows: Judged, positive_score: float | None = None) -> Task:
        """Merge rows of one query; a document answers all the queries that any row with its text names.

        Args:
            rows: with scores or without.
            positive_score: see `gains_of`.

        Raises:
            UsageError: if there are fewer than two different documents, each query is its own only document, no row's document is
                relevant, or scores do not say which are.
        """
        if all(documents == [query] for query, documents in zip(rows.queries, rows.documents)):
            raise UsageError(
                f"{rows.name}: expected pairs of a query and a document; each row holds one text twice, which any model finds. "
                "Set columns to {anchor: NAME, positive: NAME}."
            )
        texts = dict.fromkeys(text for documents in [*rows.documents, rows.others] for text in documents)
        if len(texts) < 2:
            raise UsageError(
                f"{rows.name}: expected at least 2 different documents to rank; got {len(texts)}. Raise limit."
            )
        place = {text: i for i, text in enumerate(texts)}
        gains = gains_of(rows, positive_score)
        found: dict[str, dict[int, float]] = {query: {} for query in rows.queries}
        for query, documents, gain in zip(rows.queries, rows.documents, gains):
            for text in documents if gain > 0 else ():
                found[query][place[text]] = max(gain, found[query].get(place[text], 0.0))
        answers = {query: places for query, places in found.items() if places}
        width = max(map(len, answers.values()))
        relevant = torch.tensor([[*places, *[-1] * (width - len(places))] for places in answers.values()])
        worth = [[*places.values(), *[0.0] * (width - len(places))] for places in answers.values()]
        flags = None
        if rows.near_duplicate is not None:
            fresh = {query for query, flagged in zip(rows.queries, rows.near_duplicate) if not flagged}
            flags = torch.tensor([query not in fresh for query in answers])
        return cls(
            list(answers),
            list(texts),
            relevant,
            flags,
            torch.tensor(worth, dtype=torch.float64),
            len(found) - len(answers),
            sum(gain > 0 for gain in gains),
        )


def gains_of(rows: Judged, positive_score: float | None = None) -> list[float]:
    """Say what each row's documents are worth to its query: 1 without scores, else by the scores.

    Whole scores are grades, as judgements of relevance and labels are: 0 and less is no answer, and what is above is its worth. Scores
    with fractions, as of similarity, do not say from where on a document answers.

    Args:
        rows: with scores or without.
        positive_score: the least score of a document that answers; each of them is worth 1.

    Raises:
        UsageError: if scores have fractions and ``positive_score`` is not given, it is given and there are none, or no row's is enough.

    Example:
        >>> rows = Judged("weather", ["fog"] * 3, [["a cloud"], ["mist"], ["a wine"]], [], None, scores=[3.0, 1.0, -1.0])
        >>> gains_of(rows)
        [3.0, 1.0, 0.0]
        >>> gains_of(rows, positive_score=2.0)
        [1.0, 0.0, 0.0]
    """
    if rows.scores is None:
        if positive_score is not None:
            raise UsageError(
                f"{rows.name}: expected a column of scores, as --positive-score is given; there is none. Leave it out, or set columns to "
                "{anchor: NAME, positive: NAME, score: NAME}."
            )
        return [1.0] * len(rows.queries)
    lowest, highest = min(rows.scores), max(rows.scores)
    if positive_score is None:
        if not all(score.is_integer() for score in rows.scores):
            raise UsageError(
                f"{rows.name}: expected whole scores, of which those above 0 are relevant documents; got fractions from {lowest:g} to "
                f"{highest:g}, which do not say from where on a document answers its query. Give --positive-score {highest * (0.8 if highest > 0 else 1):g}, "
                "or another number."
            )
        gains = [max(score, 0.0) for score in rows.scores]
    else:
        gains = [float(score >= positive_score) for score in rows.scores]
    if not any(gains):
        least = "above 0" if positive_score is None else f"of at least {positive_score:g}"
        raise UsageError(
            f"{rows.name}: expected rows with a score {least}, whose documents are relevant; none of {len(gains)} has one, the highest is "
            f"{highest:g}. Give --positive-score {highest:g}, or take another column as score."
        )
    return gains


def score(ranks: Tensor, gain: Tensor | None = None) -> dict[str, float]:
    """Return MRR, recall@{1,10,100} and nDCG@10 of ranks and gains as `metrics.graded_ranks` makes them; gains of 1 by default.

    The names spell @ as ``_at_``: TensorBoard would replace it.

    Example:
        >>> found = score(torch.tensor([[1.0], [4.0]]))  # one document of each of two queries, found at the first and the fourth place
        >>> found["mrr"], found["recall_at_1"], found["recall_at_10"]
        (0.625, 0.5, 1.0)
    """
    recalls = {f"recall_at_{k}": metrics.recall(ranks, k) for k in CUTOFFS}
    return {"mrr": metrics.mrr(ranks), **recalls, "ndcg_at_10": metrics.ndcg(ranks, 10, gain)}


class Retrieval:
    r"""Evaluator of retrieval, for the command and for training; the pairs are read when it is made.

    Queries are encoded with the model's prompt ``query``, documents with ``document``. Documents are ranked by cosine. Where rows have
    scores, `gains_of` says which documents are relevant; nDCG weighs them by their grades, and queries without any are left out.

    Args:
        source: a file, data set or folder as training takes them, ``environment``, or a `Source` where columns have to be said.
        split: of the source, in place of its own; ``environment`` has ``validation``, taken by default, to choose settings by.
        limit: take the first this many rows; candidates are then their documents only. None takes all.
        max_length: tokens kept of each text, or ``{"query": 32, "document": 64}``; None truncates only at the model's own limit.
        token_budget: padded tokens in one batch.
        progress: show bars while encoding.
        instruction: put at ``{instruction}`` into the prompts that have that place; a model's `Encoder.instruction` else.
        positive_score: the least score of a relevant document; None takes whole scores as grades, of which those above 0 are.

    Raises:
        MissingError: if the source is not there.
        UsageError: if its rows are no pairs, or their scores do not say which documents are relevant.

    Example:
        >>> from pathlib import Path
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Path("weather.csv").write_text("anchor,positive\nfog,fog\nfog,a cloud\nwind,wind\n")
        >>> scores = Retrieval("weather.csv")(Encoder(TinyRandom()))  # an untrained network finds equal texts
        >>> round(scores["mrr"], 4)
        1.0
    """

    def __init__(
        self,
        source: str | Source = "environment",
        split: str | None = None,
        limit: int | None = None,
        max_length: int | dict[str, int] | None = None,
        token_budget: int = 16384,
        progress: bool = False,
        instruction: str | None = None,
        positive_score: float | None = None,
    ):
        if isinstance(max_length, dict) and (unknown := set(max_length) - {"query", "document"}):
            raise UsageError(f"expected max_length for query and document; got {', '.join(sorted(unknown))}.")
        rows = read_judged(source, split, limit)
        self.rows = len(rows.queries)
        self.task = Task.of(rows, positive_score)
        self._lengths: dict[str, int | None] = (
            {**max_length} if isinstance(max_length, dict) else dict.fromkeys(("query", "document"), max_length)
        )
        self.instruction = instruction
        self._encode = {"token_budget": token_budget, "progress": progress}

    def check(self, encoder: Any) -> None:
        """Embed one query and one document, to learn early whether that can be done.

        Raises:
            UsageError: if not, as where a prompt has a place for an instruction and there is none.
        """
        self._embed(encoder, "query", self.task.queries[:1], progress=False)
        self._embed(encoder, "document", self.task.documents[:1], progress=False)

    def scores(self, encoder: Any) -> dict[str, dict[str, float]]:
        """Score an encoder: ``all`` queries, and those ``without_near_duplicates`` if the source flags them.

        Raises:
            TrainingError: if an embedding is not finite.
        """
        sides = (("query", self.task.queries), ("document", self.task.documents))
        query, document = (unit_rows(self._embed(encoder, *side)) for side in sides)
        ranks, gain = metrics.graded_ranks(query, document, self.task.relevant, self.task.gain)
        parts = {"all": score(ranks, gain)}
        flags = self.task.near_duplicate
        if flags is not None and not flags.all():
            parts["without_near_duplicates"] = score(ranks[~flags], gain[~flags])
        return parts

    def _embed(self, encoder: Any, role: str, texts: list[str], **options: Any) -> Tensor:
        given = {
            "prompt_name": role,
            "instruction": self.instruction if INSTRUCTION in encoder.prompts.get(role, "") else None,
            "max_length": self._lengths.get(role),
        }
        return encoder.encode(texts, **given | self._encode | options)

    def __call__(self, encoder: Any) -> dict[str, float]:
        """Return ``mrr`` and so on, and ``without_near_duplicates/mrr`` and so on if the source flags them."""
        return {
            metric if part == "all" else f"{part}/{metric}": value
            for part, numbers in self.scores(encoder).items()
            for metric, value in numbers.items()
        }


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``inbatch evaluate retrieval``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["minilm", "graded.csv", "--positive-score", "0.8"])
        >>> args.path, args.source, args.positive_score
        ('minilm', 'graded.csv', 0.8)
    """
    parser.description = (
        "Rank all documents of a split for each query by the cosine of their embeddings.\n"
        "Several rows with one query give it several relevant documents; hard negatives are candidates; ties count\n"
        "against the model. Where rows have scores, whole ones are grades: a document of grade 0 or less is a candidate and\n"
        "no answer, nDCG weighs the others by their grades. Scores with fractions, as of similarity, need --positive-score.\n"
        "Queries without a relevant document are left out and counted."
    )
    parser.epilog = (
        "examples:\n  inbatch evaluate retrieval minilm environment --split test --max-length 64\n"
        "  inbatch evaluate retrieval runs/my-run/export pairs.jsonl --json --out scores.json"
    )
    add_encoder_arguments(parser)
    add_source_arguments(parser, "source", "test of environment, train of others")
    parser.add_argument(
        "--positive-score",
        type=float,
        metavar="SCORE",
        help="least score of a row whose document is relevant, where rows have scores (default: whole scores above 0)",
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    r"""Evaluate one model and print its scores.

    Example:
        >>> from pathlib import Path
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Encoder(TinyRandom()).save_pretrained("export")  # an untrained network finds equal texts
        >>> _ = Path("graded.csv").write_text("anchor,positive,score\nfog,fog,1\nfog,a cloud,0\nwind,wind,1\n")
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["export", "graded.csv", "--device", "cpu"]))
        export: mean pooling, 32 dimensions, on cpu
        retrieval: graded.csv, 3 rows, each query against all 3 documents
        <BLANKLINE>
        queries  count     mrr  recall@1  recall@10  recall@100  ndcg@10
        -------  -----  ------  --------  ---------  ----------  -------
        all          2  1.0000    1.0000     1.0000      1.0000   1.0000
        <BLANKLINE>
        Relevant are the documents of 2 rows, by score > 0; 0 queries have none and are left out.
    """
    prepare_file(args.out)
    if args.source == ENVIRONMENT:
        args.split = args.split or "test"
    evaluator = Retrieval(
        **source_arguments(args),
        max_length=args.max_length,
        token_budget=args.token_budget,
        progress=True,
        positive_score=args.positive_score,
    )
    encoder = load_encoder(args, "query", "document")
    parts, task = evaluator.scores(encoder), evaluator.task
    flagged = 0 if task.near_duplicate is None else int(task.near_duplicate.sum())
    result = {
        **describe_encoder(args.path, encoder),
        "source": args.source,
        "split": args.split,
        "rows": evaluator.rows,
        "relevant_rows": task.answers,
        "positive_score": args.positive_score,
        "queries": len(task.queries),
        "unanswered_queries": task.unanswered,
        "documents": len(task.documents),
        "near_duplicates": None if task.near_duplicate is None else flagged,
        "scores": parts,
    }
    report(args, result, _screen(result))


def _screen(result: dict[str, Any]) -> str:
    parts = result["scores"]
    queries = {
        "all": result["queries"],
        "without_near_duplicates": result["queries"] - (result["near_duplicates"] or 0),
    }
    rows = [
        [part.replace("_", " "), f"{queries[part]:,}", *(f"{value:.4f}" for value in numbers.values())]
        for part, numbers in parts.items()
    ]
    title = (
        f"{headline(result)}\nretrieval: {result['source']}, {result['rows']:,} rows, each query against all "
        f"{result['documents']:,} documents"
    )
    note = ""
    if result["relevant_rows"] < result["rows"]:
        least = "> 0" if result["positive_score"] is None else f">= {result['positive_score']:g}"
        note = f"Relevant are the documents of {result['relevant_rows']:,} rows, by score {least}"
        note += f"; {result['unanswered_queries']:,} queries have none and are left out."
    return table(title, ["queries", "count", *(name.replace("_at_", "@") for name in parts["all"])], rows, note)
