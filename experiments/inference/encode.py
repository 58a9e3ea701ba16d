"""``inbatch encode``: a file of texts in, a NumPy file of embeddings out."""

from __future__ import annotations

import argparse
import sys

from inbatch.experiments.command import add_encoder_arguments, load_encoder
from inbatch.experiments.evaluation.corpus import in_braces, read_texts
from inbatch.experiments.output import prepare_file
from inbatch.files import replace_file


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``inbatch encode``.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> args = parser.parse_args(["minilm", "faq.csv", "--column", "question", "--out", "questions.npy"])
        >>> args.path, args.input, args.column, args.out
        ('minilm', 'faq.csv', 'question', 'questions.npy')
    """
    parser.description = (
        "Turn texts, one a line or row, into a float32 array of shape (rows, dimensions), row i for text i.\n"
        "A blank line of a text file is a text, so that rows and lines stay aligned. Rows have length 1 if the model normalises."
    )
    parser.epilog = (
        "examples:\n  inbatch encode minilm sentences.txt --out sentences.npy\n"
        "  inbatch encode minilm pairs.jsonl.gz --column question --out questions.npy\n"
        "  head -100 queries.txt | inbatch encode runs/my-run/export - --prompt-name query --out queries.npy"
    )
    add_encoder_arguments(parser)
    parser.add_argument(
        "input",
        metavar="IN.txt",
        help="text file with one text a line, or a csv, tsv, jsonl, json or parquet file, also compressed; - reads lines of stdin; or in "
        "braces how it is read, as in inbatch fit, e.g. '{path: a.csv, delimiter: semicolon}'",
    )
    parser.add_argument("--column", metavar="NAME", help="of a table: its column of texts, where it has several")
    parser.add_argument(
        "--out", required=True, metavar="X.npy", help="where the array goes; written whole or not at all"
    )
    parser.add_argument(
        "--prompt-name",
        metavar="NAME",
        help="a prompt of the model, such as query or document, or one of its ensembles (default: its own, mostly none)",
    )


def run(args: argparse.Namespace) -> None:
    r"""Encode a file.

    Example:
        >>> from pathlib import Path
        >>> import numpy
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> _ = Encoder(TinyRandom(hidden_size=16)).save_pretrained("export")
        >>> _ = Path("weather.txt").write_text("fog\nwind\n")
        >>> parser = argparse.ArgumentParser()
        >>> configure(parser)
        >>> run(parser.parse_args(["export", "weather.txt", "--out", "weather.npy"]))
        >>> numpy.load("weather.npy").shape
        (2, 16)
    """
    prepare_file(args.out, ".npy")
    texts = read_texts(in_braces(args.input), args.column)
    encoder = load_encoder(args, args.prompt_name)
    embeddings = encoder.encode(
        texts,
        prompt_name=args.prompt_name,
        token_budget=args.token_budget,
        max_length=args.max_length,
        progress=True,
    ).numpy()
    import numpy

    with replace_file(args.out) as file:
        numpy.save(file, embeddings)
    zero = numpy.flatnonzero(~embeddings.any(axis=1))
    if len(zero):
        print(
            f"{len(zero):,} of {len(embeddings):,} rows are exactly zero, and have no direction; the first is row {zero[0] + 1}, counted from 1",
            file=sys.stderr,
        )
    print(f"wrote {args.out}: {embeddings.shape[0]:,} x {embeddings.shape[1]} float32", file=sys.stderr)
