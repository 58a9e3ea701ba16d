"""Who may import whom, read from the sources; and the accidents of a checkout that stands on sys.path."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "losses", "kernels", "data", "experiments")
MAY_IMPORT_LIGHTNING = {
    "models/module.py",
    "data/datamodule.py",
    "inbatch/run/fit.py",
    "inbatch/run/options.py",
    "inbatch/run/trainer_options.py",
}

# What stands above models, losses and data, and so may not be imported by them.
TOP = ("inbatch.experiments", "inbatch.cli", "inbatch.run.fit", "inbatch.callbacks")
LEVEL_1 = ("inbatch.models", "inbatch.losses", "inbatch.data")

# The Lightning module brings encoder and objective together; its signature, which is the configuration's schema, names both.
CONTRACTS = {
    "models/module.py": ("inbatch.losses.base", "inbatch.losses.refusals"),
    "models/training/data_checks.py": ("inbatch.losses.base",),
    "models/training/frozen.py": ("inbatch.losses.base",),
    "models/training/embedding.py": ("inbatch.losses.base",),
}


def sources() -> Iterator[tuple[str, Path]]:
    """Every source file with its path from the root; the links in inbatch/ are not walked into."""
    for folder in ("inbatch", *FOLDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(tuple(f"inbatch/{link}/" for link in FOLDERS)):
                yield name, path


SOURCES = dict(sources())


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also for type checkers; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno}: parent-relative imports break when a folder is imported bare"
            )
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def ours(name: str) -> set[str]:
    return {module for module in imports(SOURCES[name]) if within(module, "inbatch")} - {"inbatch"}


def trunk_module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_there_is_something_to_check():
    assert {"kernels/infonce/operators.py", "losses/base.py", "inbatch/views.py"} <= SOURCES.keys()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("kernels/")])
def test_kernels_import_nothing_of_ours(name: str):
    assert {module for module in ours(name) if not within(module, "inbatch.kernels", "inbatch.lazy")} == set()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith(("models/", "losses/", "data/"))])
def test_models_losses_and_data_never_import_one_another(name: str):
    others = [package for package in LEVEL_1 if package != f"inbatch.{name.split('/')[0]}"]
    foreign = {module for module in ours(name) if within(module, *others, *TOP)}
    assert {module for module in foreign if not within(module, *CONTRACTS.get(name, ()))} == set()


def test_what_they_share_stands_below_them():
    """The trunk's modules that models, losses and data use lead to none of these, by any chain of imports."""
    trunk = {trunk_module(name): name for name in SOURCES if name.startswith("inbatch/")}
    below = {
        m for name in SOURCES if name.startswith(("models/", "losses/", "data/")) for m in ours(name) if m in trunk
    }
    seen: set[str] = set()
    while below:
        module = below.pop()
        seen.add(module)
        assert not {m for m in ours(trunk[module]) if within(m, *LEVEL_1, *TOP)}, f"{module} imports what stands on it"
        below |= {m for m in ours(trunk[module]) if m in trunk} - seen
    assert {"inbatch.views", "inbatch.errors"} <= seen


def test_few_files_know_lightning():
    users = {
        n for n, path in SOURCES.items() if any(within(m, "lightning", "pytorch_lightning") for m in imports(path))
    }
    assert {n for n in users if not n.startswith("inbatch/callbacks/")} <= MAY_IMPORT_LIGHTNING


def test_bare_folder_names_are_never_imported():
    assert {(n, m) for n, path in SOURCES.items() for m in imports(path) if within(m, *FOLDERS)} == set()


def test_files_stay_short():
    """Not a rule: a long file may be one idea. But somebody should look."""
    for name, path in SOURCES.items():
        if (lines := len(path.read_text("utf8").splitlines())) > 300:
            warnings.warn(f"{name} has {lines} lines", stacklevel=1)


def imported_at_once(tree: ast.AST) -> Iterator[ast.ImportFrom]:
    """The imports that are done when a module is: none of functions, none for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported_at_once(node)


def dotted(name: str) -> str:
    trunk = trunk_module(name)
    return trunk if within(trunk, "inbatch") else f"inbatch.{trunk}"


def node_of(module: str) -> str:
    """A sub-package stands for its modules; what lies in one of the five folders itself, and in inbatch/, stands for itself."""
    return module.rsplit(".", 1)[0] if module.count(".") > 2 or module.split(".")[1] in PACKAGES else module


MODULES = {dotted(name): name for name in SOURCES if not name.endswith("__init__.py")}
PACKAGES = {"run", "text", "callbacks"}


def test_no_circle_of_imports():
    """Sub-packages can be put in an order in which each imports only what stands before it."""
    arrows: dict[str, set[str]] = {}
    for module, name in MODULES.items():
        for node in imported_at_once(ast.parse(SOURCES[name].read_text("utf8"))):
            named = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            found = {node_of(other) for other in named & MODULES.keys()} - {node_of(module)}
            arrows.setdefault(node_of(module), set()).update(found)
    assert {"inbatch.models.export", "inbatch.kernels.infonce.triton", "inbatch.run", "inbatch.views"} <= arrows.keys()
    TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


# Who imports whom, of the five folders and the trunk.
ARROWS = {
    "models": {"inbatch", "kernels", "losses"},
    "losses": {"inbatch", "kernels"},
    "data": {"inbatch"},
    "kernels": set(),
    "experiments": {"inbatch", "models", "losses", "kernels", "data"},
    "inbatch": {"models", "losses", "kernels", "data"},
}


def test_no_new_arrow_between_folders():
    for name in MODULES.values():
        own = name.split("/")[0]
        others = {MODULES[module].split("/")[0] for module in ours(name) & MODULES.keys()} - {own}
        assert others <= ARROWS[own], name


def run(code: str, folder: Path = ROOT, path: str | None = None) -> str:
    """Run Python in a process of its own, in ``folder`` and with ``path`` as PYTHONPATH; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    if path is not None:
        environment["PYTHONPATH"] = path
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_line_imports_nothing_heavy(tmp_path: Path):
    code = """
import sys, inbatch, inbatch.cli
assert inbatch.cli.main(["--help"]) == 0
print("LOADED", *sorted({"torch", "transformers", "lightning", "numpy", "datasets", "peft"} & set(sys.modules)))
"""
    assert run(code, tmp_path).splitlines()[-1] == "LOADED"


def test_no_folder_is_importable_by_its_bare_name(tmp_path: Path):
    code = f"from importlib.util import find_spec; print([n for n in {FOLDERS} if find_spec(n)])"
    assert run(code, tmp_path) == "[]"


def test_the_program_runs_with_the_root_on_the_path():
    """transformers looks for a package called `kernels`; with the root on sys.path it finds our folder."""
    code = """
import importlib.util, os
assert os.path.samefile(importlib.util.find_spec("kernels").submodule_search_locations[0], "kernels")
import transformers
from transformers import AutoModel, AutoTokenizer, BertModel, Trainer
import torch, inbatch.kernels
from inbatch.models.backbones.pretrained import TinyRandom
from inbatch.models.encoder import Encoder
q = Encoder(TinyRandom()).encode(["a", "b"])
print(bool(torch.isfinite(inbatch.kernels.info_nce(q, q, scale=20.0))))
"""
    assert run(code, ROOT, path=str(ROOT)).splitlines()[-1] == "True"
