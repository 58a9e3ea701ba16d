"""The quick start: train on what is installed here, show that the model got better, and search with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from inbatch import cli
from inbatch.errors import InbatchError
from inbatch.experiments.output import table

RUN = Path("runs/quickstart")
QUERIES = (
    "eigenvalues of a symmetric matrix",
    "read a json file line by line",
    "retry a request after a timeout",
    "remove duplicate rows from a table",
)
METRICS = ("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10")


def main(arguments: Sequence[str] = ()) -> int:
    """Train, compare, search; further arguments go to ``inbatch fit``. Returns the exit code."""
    code = cli.main(["fit", "--config", "quickstart.yaml", "--run_dir", str(RUN), *arguments])
    if code:
        return code
    print(f"\n{comparison(RUN)}\n")
    export = RUN / "export"
    search = ["search", str(export), "environment", "--split", "test", "--top", "3", "--max-length", "64"]
    for query in QUERIES:
        search += ["--query", query]
    print("What it finds among 2,000 functions that it was not trained on:\n", flush=True)
    code = cli.main(search)
    print(
        f"\nrun folder   {RUN}   (configuration, metrics.jsonl, checkpoints)"
        f"\ntensorboard  .venv/bin/tensorboard --logdir {RUN}"
        f'\nexport       {export}   SentenceTransformer("{export}") loads it'
        f"\nsearch all   .venv/bin/inbatch search {export} environment --query 'parse a date'"
    )
    return code


def comparison(run: Path) -> str:
    """Lay out the held-out metrics before training and of the exported model, from the run folder.

    Raises:
        InbatchError: if the run folder lacks one of the two.
    """
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    before, after = ({}, {})
    for line in lines:
        for tag, value in line.items():
            stage, _, name = tag.partition("/")
            if stage == "val" and line.get("step") == 0:
                before[name] = value
            elif stage == "test":
                after[name] = value
    prefix = "retrieval/"
    if not all(f"{prefix}mrr" in numbers for numbers in (before, after)):
        raise InbatchError(
            f"expected metrics before and after training in {run}/metrics.jsonl; some are missing. Use --fresh."
        )
    rows = []
    for title, part in (("all held-out pairs", ""), ("without near-duplicates", "without_near_duplicates/")):
        for metric in METRICS:
            old, new = (numbers[f"{prefix}{part}{metric}"] for numbers in (before, after))
            rows.append([f"{metric}, {title}", f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}"])
    return table("Find a function's code by its documentation", ["", "before", "after", "gain"], rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
