"""What `inbatch doctor` finds out: one line a topic, with the remedy where something is amiss."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "wrong", "missing"]
EXIT_CODES: dict[State, int] = {"ok": 0, "note": 0, "wrong": 1, "missing": 3}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what, in a word or two.
        state: ``ok``; ``note`` for what works but is worth knowing; ``wrong``; or ``missing``.
        text: what was found.
        remedy: a command or setting that mends it; empty where there is nothing to mend.

    Example:
        >>> finding = Finding("torch", "missing", "not installed, needs torch>=2.11", "pip install 'torch>=2.11'")
        >>> EXIT_CODES[finding.state]
        3
    """

    topic: str
    state: State
    text: str
    remedy: str = ""


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 3 if something is missing, else 1 if something is wrong, else 0.

    Example:
        >>> exit_code([Finding("gpu", "note", "none"), Finding("triton", "wrong", "does not import")])
        1
        >>> exit_code([Finding("triton", "wrong", "does not import"), Finding("torch", "missing", "not installed")])
        3
    """
    return max((EXIT_CODES[finding.state] for finding in findings), default=0)


def verdict(findings: Sequence[Finding]) -> str:
    """Sum up in one line.

    Example:
        >>> verdict([Finding("gpu", "note", "none"), Finding("triton", "wrong", "does not import")])
        'To mend: triton.'
        >>> verdict([Finding("gpu", "note", "none")])
        'All is well.'
    """
    bad = [finding.topic for finding in findings if EXIT_CODES[finding.state]]
    return f"To mend: {', '.join(bad)}." if bad else "All is well."


def screen(title: str, findings: Sequence[Finding]) -> str:
    """Lay out findings for people: state, topic, and text wrapped to the terminal, with remedies on lines of their own.

    Example:
        >>> found = [Finding("gpu", "note", "none"), Finding("torch", "missing", "not installed", "pip install torch")]
        >>> print(screen("installation", found))
        installation
        <BLANKLINE>
        note    gpu    none
        missing torch  not installed
                       -> pip install torch
        <BLANKLINE>
        To mend: torch.
    """
    width = max(60, min(120, shutil.get_terminal_size().columns))
    topics = max(len(finding.topic) for finding in findings)
    lines = [title, ""]
    for finding in findings:
        lead = f"{finding.state:<8}{finding.topic:<{topics}}  "
        lines += textwrap.wrap(
            finding.text,
            width,
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=False,  # paths and names are there to be copied, and so are remedies
            break_on_hyphens=False,
        )
        if finding.remedy:
            lines.append(f"{' ' * len(lead)}-> {finding.remedy}")
    return "\n".join([*lines, "", verdict(findings)])
