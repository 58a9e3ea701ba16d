"""Retrieval over pairs: each query against all documents of its split, with MRR, recall@k and nDCG@10."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inbatch import metrics
from inbatch.data.sources import ENVIRONMENT, Source
from inbatch.errors import UsageError
from inbatch.experiments.command import add_encoder_arguments, describe_encoder, headline, load_encoder
from inbatch.experiments.corpus import Judged, add_source_arguments, read_judged, source_arguments
from inbatch.experiments.output import add_output_arguments, prepare_file, report, table
from inbatch.templates import INSTRUCTION

CUTOFFS = (1, 10, 100)


@dataclass(frozen=True)
class Task:
    """Queries, documents, and which belong together; equal texts are one.

    Attributes:
        queries: q texts, each once.
        documents: n texts, each once.
        relevant: (q, r) int64 indices into ``documents``, padded by -1.
        near_duplicate: (q,) bool, True where every row of the query is flagged; None if the source has no flags.
    """

    queries: list[str]
    documents: list[str]
    relevant: Tensor
    near_duplicate: Tensor | None = None

    @classmethod
    def of(cls, rows: Judged) -> Task:
        """Merge rows of one query; a document answers all the queries that any row with its text names.

        Raises:
            UsageError: if there are fewer than two different documents, or each query is its own only document.
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
        answers: dict[str, dict[int, None]] = {}
        for query, documents in zip(rows.queries, rows.documents):
            answers.setdefault(query, {}).update(dict.fromkeys(place[text] for text in documents))
        width = max(map(len, answers.values()))
        relevant = torch.tensor([[*places, *[-1] * (width - len(places))] for places in answers.values()])
        if rows.near_duplicate is None:
            return cls(list(answers), list(texts), relevant)
        fresh = {query for query, flagged in zip(rows.queries, rows.near_duplicate) if not flagged}
        return cls(list(answers), list(texts), relevant, torch.tensor([query not in fresh for query in answers]))


def score(ranks: Tensor) -> dict[str, float]:
    """Return MRR, recall@{1,10,100} and nDCG@10 of ranks as `metrics.relevant_ranks` makes them.

    The names spell @ as ``_at_``: TensorBoard would replace it.
    """
    recalls = {f"recall_at_{k}": metrics.recall(ranks, k) for k in CUTOFFS}
    return {"mrr": metrics.mrr(ranks), **recalls, "ndcg_at_10": metrics.ndcg(ranks, 10)}


class Retrieval:
    """Evaluator of retrieval, for the command and for training; the pairs are read when it is made.

    Queries are encoded with the model's prompt ``query``, documents with ``document``.

    Args:
        source: a file, data set or folder as training takes them, ``environment``, or a `Source` where columns have to be said.
        split: of the source, in place of its own; ``environment`` has ``validation``, taken by default, to choose settings by.
        limit: take the first this many rows; candidates are then their documents only. None takes all.
        max_length: tokens kept of each text, or ``{"query": 32, "document": 64}``; None truncates only at the model's own limit.
        token_budget: padded tokens in one batch.
        progress: show bars while encoding.
        instruction: put at ``{instruction}`` into the prompts that have that place; a model's `Encoder.instruction` else.

    Raises:
        MissingError: if the source is not there.
        UsageError: if its rows are no pairs.
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
    ):
        if isinstance(max_length, dict) and (unknown := set(max_length) - {"query", "document"}):
            raise UsageError(f"expected max_length for query and document; got {', '.join(sorted(unknown))}.")
        rows = read_judged(source, split, limit)
        self.rows = len(rows.queries)
        self.task = Task.of(rows)
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
        query, document = (metrics.unit_rows(self._embed(encoder, *side), encoder) for side in sides)
        ranks = metrics.relevant_ranks(query, document, self.task.relevant)
        parts = {"all": score(ranks)}
        flags = self.task.near_duplicate
        if flags is not None and not flags.all():
            parts["without_near_duplicates"] = score(ranks[~flags])
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
    """Declare the options of ``inbatch evaluate retrieval``."""
    parser.description = (
        "Rank all documents of a split for each query by the cosine of their embeddings.\n"
        "Several rows with one query give it several relevant documents; hard negatives are candidates; ties count\n"
        "against the model."
    )
    parser.epilog = (
        "examples:\n  inbatch evaluate retrieval minilm environment --split test --max-length 64\n"
        "  inbatch evaluate retrieval runs/my-run/export pairs.jsonl --json --out scores.json"
    )
    add_encoder_arguments(parser)
    add_source_arguments(parser, "source", "test of environment, train of others")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate one model and print its scores."""
    prepare_file(args.out)
    if args.source == ENVIRONMENT:
        args.split = args.split or "test"
    evaluator = Retrieval(
        **source_arguments(args), max_length=args.max_length, token_budget=args.token_budget, progress=True
    )
    encoder = load_encoder(args, "query", "document")
    parts, task = evaluator.scores(encoder), evaluator.task
    flagged = 0 if task.near_duplicate is None else int(task.near_duplicate.sum())
    result = {
        **describe_encoder(args.path, encoder),
        "source": args.source,
        "split": args.split,
        "rows": evaluator.rows,
        "queries": len(task.queries),
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
    return table(title, ["queries", "count", *(name.replace("_at_", "@") for name in parts["all"])], rows)
