"""``inbatch doctor``: check the installation, a model, or what a run will need, before it costs anything."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inbatch import __version__
from inbatch.arguments import Parser
from inbatch.errors import UsageError
from inbatch.experiments.doctor.findings import Finding, exit_code, screen, verdict
from inbatch.experiments.output import add_output_arguments, prepare_file, report

DESCRIPTION = """Check before it costs anything; nothing is trained and nothing is downloaded that is not named.

  inbatch doctor                      the installation: versions, imports, devices, free space, the arithmetic itself
  inbatch doctor PATH                 a model: base, adapter or merged, and whether it reloads as what it was saved from
  inbatch doctor --config ... [...]   a run: the options of `inbatch fit`, parsed; batch, negatives, and a plan of its memory"""
EPILOG = """examples:
  inbatch doctor minilm
  inbatch doctor runs/quickstart-1a2b3c4d/export
  inbatch doctor --config own/pairs.yaml --data.sources=pairs.csv --data.batch_size=4096
  inbatch doctor --config own/pairs.yaml --data.sources=pairs.csv --memory 80

exit codes: 0 all is well   1 something is wrong, or does not fit into memory   2 wrong usage   3 something is missing"""


def main(arguments: Sequence[str]) -> int:
    """Run the verb; its options are its own, except that those of a run are the parser's of ``inbatch fit``.

    Example:
        >>> main(["own/pairs.yaml"])
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected a model; own/pairs.yaml is a configuration. Did you mean --config own/pairs.yaml
        --data.sources=pairs.csv?
    """
    parser = Parser(prog="inbatch doctor", description=DESCRIPTION, epilog=EPILOG)
    add_output_arguments(parser)
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="plan a run for a rank with so many GiB, such as a GPU that will be rented",
    )
    if any(argument.partition("=")[0] in ("--config", "-c") for argument in arguments):
        args, run = parser.parse_known_args(list(arguments))
        prepare_file(args.out)
        print("building the run and rehearsing small steps; this takes a minute or so", file=sys.stderr)
        from inbatch.experiments.doctor.planning import plan_run

        facts, findings = plan_run(run, args.memory)
        return _tell(args, "plan of a run", findings, facts)
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="the folder of a run or of an export, a Hugging Face name or folder, or `minilm`",
    )
    args = parser.parse_args(arguments)
    if args.memory is not None:
        raise UsageError("--memory is for the plan of a run. Give the run, too: --config ...")
    prepare_file(args.out)
    if args.path is not None:
        from inbatch.experiments.doctor.inspection import inspect_model
        from inbatch.recipes import command, names_config

        if names_config(args.path) and not Path(args.path).is_dir():
            raise UsageError(
                f"expected a model; {args.path} is a configuration. Did you mean {command(args.path).removeprefix('inbatch fit ')}?"
            )
        return _tell(args, f"model {args.path}", inspect_model(args.path))
    print("importing and testing; this takes some seconds", file=sys.stderr)
    from inbatch.experiments.doctor.installation import check_installation
    from inbatch.experiments.doctor.machine import check_machine
    from inbatch.experiments.doctor.selftest import check_arithmetic
    from inbatch.experiments.quickstart import check_quickstart

    findings = [*check_installation()]
    if not any(finding.topic == "torch" for finding in findings):  # without torch the rest would only repeat it
        findings += [*check_machine(), *check_arithmetic(), *check_quickstart()]
    return _tell(args, "installation", findings)


def _tell(args: Any, what: str, findings: Iterable[Finding], facts: dict[str, Any] | None = None) -> int:
    findings = list(findings)
    result = {
        "inbatch": __version__,
        "what": what,
        "exit_code": exit_code(findings),
        "verdict": verdict(findings),
        "findings": [vars(finding) for finding in findings],
        **(facts or {}),
    }
    report(args, result, screen(f"inbatch {__version__}: {what}", findings))
    return exit_code(findings)
