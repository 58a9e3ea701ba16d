"""The quick start: train on what is installed here, show that the model got better, and search with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from inbatch import cli
from inbatch.allocator import restart_tuned
from inbatch.run_folder import RunFolder

RUN = "runs/quickstart"
QUERIES = (
    "eigenvalues of a symmetric matrix",
    "read a json file line by line",
    "retry a request after a timeout",
    "remove duplicate rows from a table",
)


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
    print("\nRetrieval: each held-out function is looked for by its documentation, among the code of all of them.\n")
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
        f"\nsearch       .venv/bin/inbatch search {export} environment --split test --max-length 64 --query 'parse a date'"
        "\n             (among all functions without --split test; they are encoded once, which takes minutes)"
    )
    return code


if __name__ == "__main__":
    restart_tuned()
    sys.exit(main(sys.argv[1:]))
