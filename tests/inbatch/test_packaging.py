"""The wheel, the version ranges, and an installed copy that meets a checkout on sys.path."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from inbatch.experiments.benchmarks import contestants

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "losses", "kernels", "data", "experiments")
EXTRAS = {"quickstart", "test", "flash", "qlora", "mteb", "sweep", "plot", "synthesis"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that make the package, with the links from inbatch/ to the folders beside it."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("inbatch", *FOLDERS):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "Makefile", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    assert all((copy / "inbatch" / folder).is_symlink() for folder in FOLDERS)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True, timeout=200)
    (built,) = (checkout / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself; the installation that runs the tests may be older than setup.py."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def declared(metadata: Message, *extras: str) -> dict[str, Requirement]:
    """The requirements that hold on this machine, with those of the given extras."""
    found = {}
    for line in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found[requirement.name.lower().replace("_", "-")] = requirement
    return found


def test_wheel_holds_every_file_once_and_nothing_else(checkout: Path, wheel: Path):
    trunk = [
        p for p in (checkout / "inbatch").rglob("*.py") if p.relative_to(checkout / "inbatch").parts[0] not in FOLDERS
    ]
    expected = {p.relative_to(checkout).as_posix() for p in trunk}
    assert "inbatch/run/fit.py" in expected
    for folder in FOLDERS:
        files = [*(checkout / folder).rglob("*.py"), *(checkout / folder).rglob("*.yaml")]
        expected |= {f"inbatch/{p.relative_to(checkout)}" for p in files}
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    assert set(names) == expected


def test_git_keeps_the_links_as_links(checkout: Path):
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    lines = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.split()
    assert {"inbatch/views.py", *(f"inbatch/{folder}" for folder in FOLDERS)} <= set(lines)
    assert not [line for line in lines if line.startswith(tuple(f"inbatch/{folder}/" for folder in FOLDERS))]


def test_linters_see_each_file_once(checkout: Path):
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.is_file():
        pytest.skip("ruff is not installed (pip install 'inbatch[test]')")
    listed = subprocess.run(
        [ruff, "check", "--show-files", "."], cwd=checkout, check=True, capture_output=True, text=True
    )
    assert not [f for f in listed.stdout.split() if Path(f).parent.name in FOLDERS and "/inbatch/" in f]


@pytest.mark.parametrize("checkout_first", [False, True])
def test_installed_copy_and_checkout_never_mix(installed: Path, tmp_path: Path, checkout_first: bool):
    """Whichever comes first on sys.path gives every module."""
    path = [str(ROOT), str(installed)] if checkout_first else [str(installed)]
    code = """
import importlib, inbatch, inbatch.cli
from pathlib import Path
modules = [inbatch, *(importlib.import_module(f"inbatch.{n}") for n in ("models", "losses", "kernels", "data", "experiments"))]
modules += [importlib.import_module("inbatch.losses.base"), importlib.import_module("inbatch.kernels.infonce.operators")]
print(*{str(Path(m.__file__).resolve()) for m in modules}, sep="\\n")
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.split()]
    assert len(files) == 8
    assert all(file.is_relative_to(ROOT if checkout_first else installed) for file in files)


def test_wheel_metadata(wheel: Path, metadata: Message):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        scripts = archive.read(name).decode()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "inbatch/__init__.py").read_text())
    assert version is not None
    assert metadata["Version"] == version[1]
    assert metadata["License"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS
    assert "inbatch = inbatch.cli:main" in scripts


def test_what_not_every_machine_has_is_never_required(metadata: Message):
    assert not {"flash-attn", "mteb"} & declared(metadata).keys()
    (triton,) = [r for r in map(Requirement, metadata.get_all("Requires-Dist") or []) if r.name == "triton"]
    assert triton.marker is not None
    assert not triton.marker.evaluate({"platform_system": "Darwin"})
    assert triton.marker.evaluate({"platform_system": "Linux"})


def test_what_is_tested_lies_in_the_ranges(metadata: Message):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    for name, requirement in declared(metadata, "quickstart", "test", "plot").items():
        assert name in pins, f"constraints.txt has no version of {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is not {requirement.specifier}"


def test_every_imported_package_is_declared(metadata: Message):
    """No reliance on what some other package happens to bring."""
    known = {name.replace("-", "_") for name in declared(metadata, *EXTRAS)} | {"inbatch"}
    owners = importlib.metadata.packages_distributions()
    undeclared = set()
    for folder in ("inbatch", *FOLDERS):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf8"))):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                for top in {module.split(".")[0] for module in modules} - sys.stdlib_module_names:
                    names = {owner.lower().replace("-", "_") for owner in owners.get(top, [top])}
                    # What the benchmark compares with, if somebody has installed it, is nobody's requirement.
                    rival = path.name == "contestants.py" and top in {module for module, *_ in contestants.OTHERS}
                    if not names & known and not rival:
                        undeclared.add((top, path.relative_to(ROOT).as_posix()))
    assert undeclared == set()


def test_make_lists_its_targets():
    shown = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("quickstart", "test", "gpu", "lint", "clean"):
        assert re.search(rf"^make {target} +\w", shown, re.MULTILINE)


def test_make_refuses_an_old_python(tmp_path: Path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.py", "constraints.txt"):
        (tmp_path / name).touch()
    done = subprocess.run(["make", "test", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected Python 3.11 or newer; false is older or missing" in done.stderr
    assert not (tmp_path / ".venv").exists()
