"""``inbatch bench``: measure against peers in one run, after checking that ours is right."""

from __future__ import annotations

import argparse

from inbatch.experiments.benchmarks import kernels as bench_kernels
from inbatch.experiments.benchmarks import memory as bench_memory
from inbatch.experiments.benchmarks import train as bench_train
from inbatch.experiments.command import add_kinds

_KINDS = {
    "kernels": (bench_kernels, "the loss stage: info_nce against autograd, torch's chunked loss and cached losses"),
    "memory": (bench_memory, "what the loss stage allocates as the batch grows, beside autograd"),
    "train": (bench_train, "a training step: the same model and pairs as sentence-transformers' cached loss"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs of ``inbatch bench`` and their options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> parser.parse_args(["memory", "--rows", "2048"]).rows
        2048
    """
    parser.description = "Measure speed and memory side by side. A wrong result stops the run before any timing."
    parser.epilog = "example: inbatch bench kernels --rows 8192 --dim 384 --json"
    add_kinds(parser, _KINDS)


def run(args: argparse.Namespace) -> None:
    """Run the sub-verb that was asked for.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["kernels", "--rows", "0"]))
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected --rows, --dim and --repetitions of at least 1 and a positive --temperature
    """
    args.run_kind(args)
