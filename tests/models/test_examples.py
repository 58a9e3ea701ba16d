"""Every example in a docstring of models/ runs, and every public class and function has one that can run offline."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    "inbatch." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted((ROOT / "models").rglob("*.py"))
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


# They take a language model by name, or a data module; `TinyDecoder`, `TinyGenerator` and `TinyHead` have examples in their place;
# `refuses` has its own in `write_refusal`.
WITHOUT = {"PretrainedDecoder", "PretrainedGenerator", "PretrainedHead", "check_data", "refuses"}


def test_every_public_class_and_function_has_an_example():
    missing = {
        node.name
        for path in MODULES.values()
        for node in ast.parse(path.read_text("utf8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if ">>>" not in (ast.get_docstring(node) or "")
    }
    assert missing == WITHOUT
