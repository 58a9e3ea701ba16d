"""Every public class and function has an example in its docstring, and every example runs, offline, in an empty folder."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import known_rates
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("inbatch", "losses", "models", "kernels", "data", "experiments")


def modules_of(folder: str) -> dict[str, Path]:
    """Modules by name; those of the folders that the trunk links to are found where they are."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if path.name != "__init__.py" and not (folder == "inbatch" and parts[1] in FOLDERS):
            found[".".join(parts if folder == "inbatch" else ("inbatch", *parts))] = path
    return found


MODULES = {name: path for folder in FOLDERS for name, path in modules_of(folder).items()}
# What the softmax operator is made of: its users and readers have the operators and the reference, which have examples.
INSIDE, OPEN = "inbatch.kernels.infonce.", ("operators", "reference")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if ".triton." in name:
        pytest.importorskip("triton")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INBATCH_CACHE", str(tmp_path / "cache"))
    if name != "inbatch.arithmetic":
        known_rates.stub(monkeypatch)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_every_public_class_and_function_has_an_example():
    missing = {
        f"{name}.{node.name}"
        for name, path in MODULES.items()
        if not name.startswith(INSIDE) or name.removeprefix(INSIDE) in OPEN
        for node in ast.parse(path.read_text("utf8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if ">>>" not in (ast.get_docstring(node) or "")
    }
    assert missing == set()
