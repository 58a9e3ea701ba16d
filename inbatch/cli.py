"""The command ``inbatch``: find the verb, run it, and turn errors into one sentence and an exit code.

Only the standard library is imported here, and each verb's module when it is asked for, so that help is there at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module

from inbatch import __version__
from inbatch.activity import doing, spoken
from inbatch.allocator import restart_tuned
from inbatch.arguments import Parser
from inbatch.errors import InbatchError, UsageError
from inbatch.spelling import nearest

# verb: (module, what it does). A module has configure(parser) and run(args), or main(arguments) if it parses by itself.
VERBS = {
    "fit": ("inbatch.run.fit", "train a model from YAML files and options; the same command again resumes"),
    "recipes": (
        "inbatch.experiments.recipes.command",
        "list what can be trained as it is, with what each recipe claims",
    ),
    "evaluate": ("inbatch.experiments.evaluation.command", "measure a model: sts, retrieval"),
    "encode": ("inbatch.experiments.inference.encode", "turn a file of texts into an array of embeddings"),
    "search": ("inbatch.experiments.inference.search", "find the nearest texts of a corpus"),
    "synthesize": (
        "inbatch.experiments.synthesis.command",
        "compute once what a training needs: reference-scores of an earlier stage",
    ),
    "bench": (
        "inbatch.experiments.benchmarks.command",
        "measure speed and memory against peers, after checking that results agree",
    ),
    "doctor": (
        "inbatch.experiments.doctor.command",
        "check the installation, a saved model, or the memory that a run will need",
    ),
}
# Those that run networks, for which a heap is tuned. `bench` measures both sides on the one that is there.
NETWORKS = ("fit", "evaluate", "encode", "search", "synthesize", "doctor")
# What other programs call a verb.
OTHER_NAMES = {"train": "fit", "embed": "encode"}
NOT_HERE = (
    "inbatch runs on Linux and macOS; this is Windows, which has no file locks and signals of their kind. Install it in WSL "
    "(https://learn.microsoft.com/windows/wsl/install)."
)
EXIT_CODES = """exit codes:
  0 done   1 any other failure   2 wrong usage, configuration or data   3 something is not there
  4 training cannot go on   75 stopped by SIGTERM after a checkpoint   130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``inbatch`` with ``arguments`` (default: those of the process) and return its exit code.

    Example:
        >>> from contextlib import redirect_stderr
        >>> with redirect_stderr(sys.stdout):
        ...     main(["train", "--config", "quickstart.yaml"])
        inbatch: error: there is no verb 'train'. Did you mean fit? (`inbatch --help` lists them)
        2
    """
    if sys.platform == "win32":
        print(f"inbatch: error: {NOT_HERE}", file=sys.stderr)
        return 2
    if arguments is None and sys.argv[1:2] and sys.argv[1] in NETWORKS:
        restart_tuned()
    given = list(sys.argv[1:] if arguments is None else arguments)
    return answer(lambda: _dispatch(given))


def answer(work: Callable[[], int]) -> int:
    """Do a program's work and return its exit code; errors become one sentence and theirs.

    Example:
        >>> from contextlib import redirect_stderr
        >>> def read():
        ...     raise UsageError("expected a csv file; got pairs.docx.")
        >>> with redirect_stderr(sys.stdout):
        ...     answer(read)
        inbatch: error: expected a csv file; got pairs.docx.
        2
    """
    _write_anything()
    try:
        return work()
    except InbatchError as error:
        print(f"inbatch: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("inbatch: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (`| head`); what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(f"inbatch: error: cannot write {error.filename or 'a file'}: {error.strerror}.", file=sys.stderr)
        return 1
    except SystemExit as leave:  # argparse after --help and --version
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)


def _write_anything() -> None:
    r"""Write what a terminal's or pipe's encoding lacks as its number, such as \u2026, as Python does on stderr; what the user set stays."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        overview().parse_args(arguments or ["--help"])
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        near = nearest(verb, [*VERBS, *OTHER_NAMES])
        hint = f". Did you mean {OTHER_NAMES.get(near, near)}?" if near else ""
        raise UsageError(f"there is no verb {verb!r}{hint} (`inbatch --help` lists them)")
    speaks = verb in NETWORKS and os.environ.get("LOCAL_RANK", "0") == "0"
    with spoken() if speaks else nullcontext():
        with doing(f"starting inbatch {verb}"):
            module = import_module(VERBS[verb][0])
        if hasattr(module, "main"):
            return module.main(rest) or 0
        parser = Parser(prog=f"inbatch {verb}", description=VERBS[verb][1])
        module.configure(parser)
        return module.run(parser.parse_args(rest)) or 0


def overview() -> Parser:
    """Build the parser of ``inbatch`` itself, which only prints help and version.

    Example:
        >>> overview().description.splitlines()[3].strip()
        'fit         train a model from YAML files and options; the same command again resumes'
    """
    verbs = "\n".join(f"  {name:<11} {what}" for name, (_, what) in VERBS.items())
    parser = Parser(
        prog="inbatch",
        usage="inbatch VERB ...",
        description=f"Contrastive text embeddings with exact in-batch negatives.\n\nverbs:\n{verbs}",
        epilog=f"`inbatch VERB --help` explains a verb.\n\n{EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"inbatch {__version__}")
    return parser
