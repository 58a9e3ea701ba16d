"""The examples in the docstrings of kernels run, and every public function has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import inbatch.kernels

MODULES = sorted(found.name for found in pkgutil.walk_packages(inbatch.kernels.__path__, "inbatch.kernels."))
# Beside what the package exports: the modules whose functions are used from outside, and the references, which are to be read.
OPEN = ("caching", "rows", "trial", "distributed.gather", "infonce.operators", "infonce.reference", "pairwise.reference", "pairwise.chunked")  # fmt: skip


def public_functions():
    for name in MODULES:
        module = importlib.import_module(name)
        if name.removeprefix("inbatch.kernels.") in OPEN:
            members = inspect.getmembers(module, inspect.isfunction)
            yield from (f for own, f in members if not own.startswith("_") and f.__module__ == name)
    yield from (getattr(inbatch.kernels, exported) for exported in inbatch.kernels.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    if ".triton." in name:
        pytest.importorskip("triton")
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_every_public_function_has_an_example():
    functions = {f"{f.__module__}.{f.__name__}": f for f in public_functions()}
    assert {
        "inbatch.kernels.pairwise.chunked.sum_over_pairs",
        "inbatch.kernels.caching.map_in_chunks",
    } <= functions.keys()
    parser = doctest.DocTestParser()
    assert [name for name, f in functions.items() if not parser.get_examples(inspect.getdoc(f) or "")] == []
