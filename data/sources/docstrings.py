"""Read pairs of docstring summary and code from Python source; nothing is imported or run.

Only the standard library is used, because `inbatch.data.sources.environment` also runs this file by its path, as a small process of its
own that need not import torch, nor be forked from a process that did. As a script it reads one JSON string a line, the path of a
file, and answers each with one JSON list of pairs.
"""

from __future__ import annotations

import ast
import gc
import inspect
import json
import re
import sys
import tokenize
import warnings
from collections.abc import Iterator

# Raise it when the pairs that are read from the same source change: caches are keyed by it.
VERSION = 1

_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 3
# Paragraphs that start so list arguments or show examples; they do not say what the function does.
_NO_SUMMARY = re.compile(
    r"[@>:]?(>>|param|type|returns?|raises?|meta|args|arguments|parameters|examples?|notes?|see also)\b\s*:?\s*$"
    r"|(>>>|:(param|type|returns?|raises?|meta)\b|@)"
    r"|[`*\w]+\s*\(.*\)\s*:|[`*\w]+\s*:\s*$",
    re.IGNORECASE,
)


def read_pairs(path: str) -> list[tuple[str, int, str, str]]:
    r"""Read the functions and methods of one file whose docstring says in words what they do.

    Args:
        path: a Python file, in any encoding that it declares.

    Returns:
        One (qualified name, line, summary, code) a function. The summary is the docstring's first paragraph on one line; the
        code is without indentation, blank lines and the docstring, and with decorators. Empty where the file does not parse.
        Left out: functions inside functions, summaries of fewer than three words or that list arguments, and bodies that hold
        nothing but ``pass``, ``...`` or ``raise``.

    Example:
        >>> with open("shapes.py", "w") as file:
        ...     print("def area(width, height):\n    '''Return the area of a rectangle.'''\n    return width * height", file=file)
        >>> read_pairs("shapes.py")
        [('area', 1, 'Return the area of a rectangle.', 'def area(width, height):\n    return width * height')]
    """
    try:
        with tokenize.open(path) as file:
            source = file.read()
        if '"""' not in source and "'''" not in source:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            module = ast.parse(source)
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []
    lines = source.split("\n")
    pairs = []
    for name, node in _functions(module.body, ""):
        docstring = ast.get_docstring(node, clean=False)
        summary = None if docstring is None else summarize(docstring)
        code = None if summary is None else _code(node, lines)
        if summary is not None and code is not None:
            pairs.append((name, node.lineno, summary, code))
    return pairs


def summarize(docstring: str) -> str | None:
    r"""Return the first paragraph of a docstring on one line; None where it does not describe anything.

    Example:
        >>> summarize("Return the area\n    of a rectangle.\n\n    Args:\n        width: in metres.")
        'Return the area of a rectangle.'
        >>> summarize(":param width: in metres of the plan") is None
        True
    """
    paragraph = inspect.cleandoc(docstring).split("\n\n", 1)[0]
    if len(_WORD.findall(paragraph)) < _LEAST_WORDS or _NO_SUMMARY.match(paragraph.split("\n", 1)[0]):
        return None
    # An escape such as "\ud800" makes a string that no encoding can write.
    return " ".join(paragraph.encode("utf-8", "ignore").decode().split())


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Walk the functions of a module and of its classes, also those under ``if`` and ``try``."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _functions([*node.body, *node.orelse], prefix)


def _code(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str | None:
    """Cut a function out of its file; None where nothing of substance is left without the docstring."""
    docstring, *rest = node.body
    if all(isinstance(part, (ast.Pass, ast.Raise)) or _is_constant(part) for part in rest):
        return None
    end = docstring.end_lineno or docstring.lineno
    if docstring.lineno == node.lineno or rest[0].lineno == end:  # it shares a line with code
        return None
    first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
    kept = lines[first - 1 : docstring.lineno - 1] + lines[end : node.end_lineno]
    indent = " " * node.col_offset
    return "\n".join(line.removeprefix(indent).rstrip() for line in kept if line.strip())


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def main() -> None:
    r"""Answer each path on the standard input with its pairs, one JSON list a line.

    Example:
        >>> import subprocess
        >>> with open("volumes.py", "w") as file:
        ...     print("def volume(side):\n    '''Return the volume of a cube.'''\n    return side**3", file=file)
        >>> answer = subprocess.run([sys.executable, "-I", __file__], input='"volumes.py"', capture_output=True, text=True).stdout
        >>> json.loads(answer)
        [['volume', 1, 'Return the volume of a cube.', 'def volume(side):\n    return side**3']]
    """
    gc.disable()  # syntax trees are freed by their reference counts; scanning them for cycles costs a third of the time
    for line in sys.stdin:
        sys.stdout.write(json.dumps(read_pairs(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
