"""The quick start: train on what is installed here, show that the model got better, and search with it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inbatch import cli
from inbatch.activity import doing, spoken
from inbatch.allocator import restart_tuned
from inbatch.arguments import Parser
from inbatch.errors import MissingError, UsageError
from inbatch.experiments.budget import Plan, duration, fit_into, measure
from inbatch.experiments.doctor.findings import Finding
from inbatch.run_folder import RunFolder

RUN = "runs/quickstart"
CONFIG = "quickstart.yaml"
MINUTES = 6.0
# As in the configuration.
LENGTHS = {"query": 32, "document": 64}
# Held-out pairs whose lengths stand for all, and what padding adds to them in chunks.
_SAMPLED, _PADDED = 256, 1.05
# Seconds to read the installed packages for the first time, on two cores.
_READING = 30.0
QUERIES = (
    "eigenvalues of a symmetric matrix",
    "read a json file line by line",
    "retry a request after a timeout",
    "remove duplicate rows from a table",
)
DESCRIPTION = """Train MiniLM on the packages that are installed here, compare it before and after, and search with it.

Speed is measured first, and as many pairs and steps are taken as fit into the budget. The choice is kept in the run's folder: the same
command goes on with it, or prints the result. Further options are those of `inbatch fit`."""


def main(arguments: Sequence[str] = ()) -> int:
    """Plan, train, compare, search; further arguments go to ``inbatch fit``. Returns the exit code.

    Example:
        >>> main(["--budget", "0"])  # why is on stderr
        2
    """
    return cli.answer(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    start = time.monotonic()
    parser = Parser(prog="make quickstart ARGS=…", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--run_dir", default=RUN, metavar="DIR", help="the run's folder (default: %(default)s)")
    parser.add_argument(
        "--fresh", nargs="?", const="true", default="false", metavar="true", help="plan and train anew, beside it"
    )
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help=f"for all of it, after installation (default: {MINUTES:g})"
    )
    options, rest = parser.parse_known_args(list(arguments))
    if options.budget is not None and not 0 < options.budget < 24 * 60:
        raise UsageError(f"expected --budget as minutes, above 0 and below {24 * 60}; got {options.budget:g}.")
    run = RunFolder.choose({}, "", options.run_dir, options.fresh.lower() == "true").path
    chosen = choices_of(run)
    if chosen is None:
        with spoken(), doing("timing the network"):
            plan = make_plan(60 * (options.budget or MINUTES), rest, start)
        print(plan.describe(), flush=True)
        chosen = [f"--data.batch_size={plan.pairs}", f"--trainer.max_steps={plan.steps}"]
    elif options.budget is not None:
        print(f"{run} goes on as it was planned. --fresh plans anew, in a folder beside it.", flush=True)
    code = cli.main(["fit", "--config", CONFIG, "--run_dir", str(run), *chosen, *rest])
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


def choices_of(run: Path) -> list[str] | None:
    r"""Return the options that a run was begun with after planning; None if there is no such run.

    Example:
        >>> _ = Path("config.yaml").write_text("data: {batch_size: 640}\ntrainer: {max_steps: 4}\n")
        >>> choices_of(Path("."))
        ['--data.batch_size=640', '--trainer.max_steps=4']
        >>> choices_of(Path("not begun"))
    """
    import yaml

    path = run / "config.yaml"
    if not path.is_file():
        return None
    config = yaml.safe_load(path.read_text("utf-8"))
    return [
        f"--data.batch_size={config['data']['batch_size']}",
        f"--trainer.max_steps={config['trainer']['max_steps']}",
    ]


def make_plan(budget: float, options: Sequence[str], start: float) -> Plan:
    """Read the corpus, time the network, and plan.

    Args:
        budget: seconds for all.
        options: of ``inbatch fit``; precision and accelerator are heeded.
        start: when the clock began, by ``time.monotonic``.

    Example:
        >>> from unittest.mock import patch
        >>> from inbatch.experiments.budget import Rates
        >>> pairs = {"anchor": ["add two numbers"], "positive": ["def add(a, b): return a + b"]}
        >>> with patch.multiple(  # in place of the installed packages, of MiniLM's tokens and of this processor
        ...     "inbatch.experiments.quickstart", corpus=lambda: pairs, encoder_here=lambda options: (None, "32-true"),
        ...     mean_tokens=lambda encoder, pairs: 75.0, measure=lambda encoder, precision: Rates(1000.0, 4000.0),
        ... ):
        ...     plan = make_plan(360.0, [], time.monotonic())
        planning: the installed packages are read, and the network is timed
        >>> plan.what
        '4 steps of 640 pairs, 639 in-batch negatives an anchor'
    """
    print("planning: the installed packages are read, and the network is timed", flush=True)
    pairs = corpus()
    encoder, precision = encoder_here(options)
    tokens = mean_tokens(encoder, pairs)
    return fit_into(budget, measure(encoder, precision), tokens, time.monotonic() - start)


def corpus() -> dict[str, list[str]]:
    """Read the installed packages, which the run would do else, and return some held-out pairs.

    Example:
        >>> from unittest.mock import patch
        >>> from datasets import Dataset
        >>> installed = Dataset.from_dict({"anchor": ["add two numbers"] * 300, "positive": ["def add(a, b): return a + b"] * 300})
        >>> with patch("inbatch.data.sources.environment.environment_pairs", return_value=installed):  # reading takes seconds
        ...     len(corpus()["anchor"])
        256
    """
    from inbatch.data.sources.environment import environment_pairs

    return environment_pairs("test")[:_SAMPLED]


def encoder_here(options: Sequence[str] = ()) -> tuple[Any, Any]:
    """Build the quick start's encoder on the device of the run, and find the precision that the run will have.

    Example:
        >>> from unittest.mock import patch
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> with patch("inbatch.models.backbones.pretrained.Pretrained", lambda name, dropout: TinyRandom()):  # in place of MiniLM
        ...     encoder, precision = encoder_here(["--trainer.precision=bf16-mixed", "--trainer.accelerator=cpu"])
        >>> encoder.pooling, precision
        ('mean', 'bf16-mixed')
    """
    import torch

    from inbatch.models.backbones.pretrained import Pretrained
    from inbatch.models.encoder import Encoder
    from inbatch.precision import device_of, resolve

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("precision", "accelerator"):
        parser.add_argument(f"--trainer.{name}", dest=name, default="auto")
    asked = vars(parser.parse_known_args(list(options))[0])
    encoder = Encoder(Pretrained("minilm", dropout=0.0), pooling="mean", normalize=True)
    device = device_of(asked["accelerator"])
    return encoder.to(torch.device(device)), resolve(asked["precision"], asked["accelerator"]).value


def check_quickstart() -> Iterator[Finding]:
    """Say how long the quick start would take here, for `inbatch doctor`; nothing where its model is not installed.

    Example:
        >>> from unittest.mock import patch
        >>> from inbatch.experiments.budget import Rates
        >>> here = {"encoder_here": lambda: (None, "32-true"), "measure": lambda encoder, precision: Rates(1000.0, 4000.0)}
        >>> with patch.multiple("inbatch.experiments.quickstart", **here), patch("inbatch.models.locate.locate"):
        ...     next(check_quickstart()).text
        'about 5 min 55 s: 4 steps of 576 pairs, 575 in-batch negatives an anchor; --budget MINUTES changes that'
        >>> with patch("inbatch.models.locate.locate", side_effect=MissingError("minilm is not installed")):
        ...     [*check_quickstart()]
        []
    """
    from inbatch.models.locate import locate

    try:
        locate("minilm")
    except MissingError:
        return
    plan = fit_into(60 * MINUTES, measure(*encoder_here()), spent=_READING)
    yield Finding("quick start", "ok", f"about {duration(plan.seconds)}: {plan.what}; --budget MINUTES changes that")


def mean_tokens(encoder: Any, pairs: dict[str, list[str]]) -> float:
    """Count the tokens of some pairs as the quick start cuts them, on average over pairs, and add what chunks pad.

    Example:
        >>> from inbatch.models.backbones.pretrained import TinyRandom
        >>> from inbatch.models.encoder import Encoder
        >>> pairs = {"anchor": ["a sum"], "positive": ["a + b"]}
        >>> round(mean_tokens(Encoder(TinyRandom()), pairs), 2)  # a token a byte and two around: 7 + 7, and 5 % of padding
        14.7
    """
    from inbatch.text.tokens import tokenize

    sides = ((pairs["anchor"], LENGTHS["query"]), (pairs["positive"], LENGTHS["document"]))
    counted = sum(int(tokenize(encoder.tokenizer, texts, length).lengths.sum()) for texts, length in sides)
    return counted / len(pairs["anchor"]) * _PADDED


if __name__ == "__main__":
    restart_tuned()
    sys.exit(main(sys.argv[1:]))
