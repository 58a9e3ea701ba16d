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
    """Declare the sub-verbs of ``inbatch evaluate`` and their options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["sts", "minilm", "--sets", "STS-B", "SICK-R"])
        >>> args.kind, args.path, args.sets
        ('sts', 'minilm', ['STS-B', 'SICK-R'])
    """
    parser.description = "Measure a model. Numbers go to the screen; --json and --out give them to programs."
    parser.epilog = "examples:\n  inbatch evaluate sts minilm --data-dir senteval\n  inbatch evaluate retrieval minilm environment --split test"
    add_kinds(parser, _KINDS)


def run(args: argparse.Namespace) -> None:
    """Run the sub-verb that was asked for.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["retrieval", "minilm", "pairs.csv", "--out", "scores.txt"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a file name that ends in .json; got 'scores.txt'. Set --out.
    """
    args.run_kind(args)
