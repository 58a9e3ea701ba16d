"""The quick start: train on what is installed here, show that the model got better, and search with it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from inbatch import cli
from inbatch.errors import InbatchError
from inbatch.experiments.output import table
from inbatch.run_folder import RunFolder

RUN = "runs/quickstart"
QUERIES = (
    "eigenvalues of a symmetric matrix",
    "read a json file line by line",
    "retry a request after a timeout",
    "remove duplicate rows from a table",
)
METRICS = ("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10")


def main(arguments: Sequence[str] = ()) -> int:
    """Train, compare, search; further arguments go to ``inbatch fit``. Returns the exit code."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run_dir", default=RUN)
    parser.add_argument("--fresh", nargs="?", const="true", default="false")
    folder, rest = parser.parse_known_args(arguments)
    run = RunFolder.choose({}, "", folder.run_dir, folder.fresh.lower() == "true").path
    code = cli.main(["fit", "--config", "quickstart.yaml", "--run_dir", str(run), *rest])
    if code:
        return code
    print(f"\n{comparison(run)}\n")
    export = run / "export"
    search = ["search", str(export), "environment", "--split", "test", "--top", "3", "--max-length", "64"]
    for query in QUERIES:
        search += ["--query", query]
    print("What it finds among 2,000 functions that it was not trained on:\n", flush=True)
    code = cli.main(search)
    print(
        f"\nrun folder   {run}   (configuration, metrics.jsonl, checkpoints)"
        f"\ntensorboard  .venv/bin/tensorboard --logdir {run}"
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
