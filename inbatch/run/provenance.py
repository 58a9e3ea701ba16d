"""Where a result comes from: the command, the commit of the code, and the versions of what it stands on."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("inbatch", "torch", "lightning", "transformers", "tokenizers", "datasets", "peft", "numpy", "triton")


def provenance(verb: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Describe this process: time (UTC), command, git commit of the code, Python, platform and package versions.

    Example:
        >>> facts = provenance("fit", ["--config", "my pairs.yaml"])
        >>> facts["command"]
        "inbatch fit --config 'my pairs.yaml'"
        >>> list(facts)
        ['time', 'command', 'commit', 'python', 'platform', 'packages']
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["inbatch", verb, *arguments]),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """Return the git commit of the code, with ``+`` if tracked files differ from it; None for an installed package.

    Example:
        >>> commit(Path()) is None  # this code is not under version control here
        True
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()

    try:
        # An installation inside some other project's repository is not that repository's code.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
