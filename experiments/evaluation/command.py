"""``inbatch evaluate``: one sub-verb for each kind of evaluation."""

from __future__ import annotations

import argparse

from inbatch.experiments.command import add_kinds
from inbatch.experiments.evaluation import retrieval, sts

_KINDS = {
    "sts": (sts, "semantic textual similarity: STS12-16, STS-B, SICK-R"),
    "retrieval": (retrieval, "find each query's document among all documents of a file, a data set or the environment"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs of ``inbatch evaluate`` and their options."""
    parser.description = "Measure a model. Numbers go to the screen; --json and --out give them to programs."
    parser.epilog = "examples:\n  inbatch evaluate sts minilm --data-dir senteval\n  inbatch evaluate retrieval minilm environment --split test"
    add_kinds(parser, _KINDS)


def run(args: argparse.Namespace) -> None:
    """Run the sub-verb that was asked for."""
    args.run_kind(args)
