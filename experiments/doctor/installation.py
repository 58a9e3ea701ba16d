"""Check an installation: the interpreter, the packages' versions, whether they import, and where models come from."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from inbatch.experiments.doctor.findings import Finding

# Import names of what a run cannot do without; triton where torch uses it.
IMPORTED = ("torch", "transformers", "lightning", "datasets", "peft", "tensorboard", "jsonargparse", "scipy")


def check_installation() -> Iterator[Finding]:
    """Look at all that a run stands on, apart from the machine.

    Example:
        >>> first = next(check_installation())
        >>> first.topic, first.state
        ('python', 'ok')
    """
    yield check_python()
    yield from check_requirements(metadata.requires("inbatch") or [])
    yield from check_search_path()
    yield from check_imports(IMPORTED + (("triton",) if sys.platform == "linux" else ()))


def check_python() -> Finding:
    """Compare the interpreter with what the package asks for.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("sys.version_info", (3, 8, 0)):
        ...     finding = check_python()
        >>> finding.state, finding.text, finding.remedy
        ('wrong', '3.8.0, needs >=3.11', 'make an environment with a newer Python')
    """
    running = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata("inbatch")["Requires-Python"]
    if SpecifierSet(wanted).contains(running):
        return Finding("python", "ok", f"{running} at {sys.executable}")
    return Finding("python", "wrong", f"{running}, needs {wanted}", "make an environment with a newer Python")


def check_requirements(lines: Sequence[str]) -> Iterator[Finding]:
    """Compare the installed versions with the package's ranges.

    Args:
        lines: requirements as in package metadata, with markers.

    Example:
        >>> for finding in check_requirements(["numpy>=99", "not-on-any-shelf>=1", "pywin32; platform_system == 'none'"]):
        ...     print(finding.state, finding.topic, finding.remedy)
        wrong numpy pip install 'numpy>=99'
        missing not-on-any-shelf pip install 'not-on-any-shelf>=1'
        ok packages
    """
    inside: list[str] = []
    optional: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines):
        extra = _extra_of(requirement)
        if extra is None and requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue  # for another platform
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if extra is None:
                wanted = f"{requirement.name}{requirement.specifier}"
                yield Finding(requirement.name, "missing", f"not installed, needs {wanted}", f"pip install '{wanted}'")
            elif extra != "test":  # of use in a checkout only
                optional.setdefault(extra, []).append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            text = f"{version} is installed, inbatch needs {requirement.specifier}"
            yield Finding(requirement.name, "wrong", text, f"pip install '{requirement.name}{requirement.specifier}'")
        elif extra is None:
            inside.append(f"{requirement.name} {version}")
    yield Finding("packages", "ok", f"in range: {', '.join(inside)}")
    if optional:
        parts = [f"{extra} ({', '.join(names)})" for extra, names in sorted(optional.items())]
        text = f"extras that are not wholly installed, none of them needed to train: {', '.join(parts)}"
        yield Finding("extras", "note", text, "pip install 'inbatch[NAME]'")


def _extra_of(requirement: Requirement) -> str | None:
    for extra in metadata.metadata("inbatch").get_all("Provides-Extra") or []:
        if requirement.marker is None:
            return None
        if requirement.marker.evaluate({"extra": extra}) and not requirement.marker.evaluate({"extra": ""}):
            return extra
    return None


def check_search_path() -> Iterator[Finding]:
    """Tell when the checkout's own folders can be imported by their bare names.

    Example:
        >>> from unittest.mock import patch
        >>> with patch("sys.path", [str(Path(__file__).resolve().parents[2])]):  # the root of a checkout
        ...     print(next(check_search_path()).remedy)
        export PYTHONSAFEPATH=1, or start from another folder
        >>> with patch("sys.path", ["/usr/lib"]):
        ...     [*check_search_path()]
        []
    """
    root = Path(__file__).resolve().parent.parent.parent
    bare = [str(entry or ".") for entry in sys.path if Path(entry or ".").resolve() == root]
    if bare and (root / "setup.py").is_file():
        text = "the checkout's root is on sys.path, where its folders `data`, `models` and `kernels` hide packages of these names"
        yield Finding("sys.path", "note", text, "export PYTHONSAFEPATH=1, or start from another folder")


def check_imports(names: Sequence[str]) -> Iterator[Finding]:
    """Import packages for real: the versions may be right and a library of the system missing.

    Example:
        >>> from unittest.mock import patch
        >>> _ = Path("torn.py").write_text("import a_library_that_was_lost")
        >>> with patch("sys.path", [*sys.path, str(Path.cwd())]):
        ...     for finding in check_imports(["json", "torn"]):
        ...         print(finding.state, finding.topic, finding.text.partition(" (")[0])
        wrong torn does not import: No module named 'a_library_that_was_lost'
        ok imports json
    """
    start, fine = time.perf_counter(), []
    for name in names:
        try:
            import_module(name)
            fine.append(name)
        except ModuleNotFoundError as error:
            if error.name != name:  # a package that is not there at all has been told with the versions
                yield Finding(name, "wrong", f"does not import: {error}", f"pip install --force-reinstall {name}")
        except Exception as error:  # whatever a broken installation raises
            reason = (str(error).splitlines() or [""])[0]
            text = f"does not import: {type(error).__name__}: {reason}"
            yield Finding(name, "wrong", text, f"pip install --force-reinstall {name}")
    yield Finding("imports", "ok", f"{', '.join(fine)} ({time.perf_counter() - start:.1f} s)")
