from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inbatch.data.sources import docstrings
from inbatch.data.sources.docstrings import read_pairs, summarize

MODULE = '''
import functools


def plain(x):
    """Add one to a number.

    More words that are not taken.
    """
    return x + 1


class Outer:
    """A class is not read."""

    @functools.cached_property
    @property
    def method(self):
        """
        Describe over
        two lines.
        """

        def inner():
            """Nested functions are left out."""
            return 1

        return inner

    class Inner:
        async def wait(self):
            r"""Wait for \\d things."""
            # A comment stays.
            await self


if True:
    def conditional():
        """Stand under a condition here."""
        return 1
else:
    try:
        def otherwise():
            """Stand under another condition here."""
            return """
            text that looks
indented"""
    except ImportError:
        pass
'''


def pairs_of(folder: Path, source: str | bytes) -> list[tuple[str, int, str, str]]:
    path = folder / "module.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return read_pairs(str(path))


def test_functions_and_methods_are_read_with_place_summary_and_code(tmp_path):
    assert pairs_of(tmp_path, MODULE) == [
        ("plain", 5, "Add one to a number.", "def plain(x):\n    return x + 1"),
        (
            "Outer.method",
            18,
            "Describe over two lines.",
            "@functools.cached_property\n@property\ndef method(self):\n    def inner():\n"
            '        """Nested functions are left out."""\n        return 1\n    return inner',
        ),
        (
            "Outer.Inner.wait",
            31,
            "Wait for \\d things.",
            "async def wait(self):\n    # A comment stays.\n    await self",
        ),
        ("conditional", 38, "Stand under a condition here.", "def conditional():\n    return 1"),
        (
            "otherwise",
            43,
            "Stand under another condition here.",
            'def otherwise():\n    return """\n    text that looks\nindented"""',
        ),
    ]


@pytest.mark.parametrize(
    "function",
    [
        'def f():\n    """Do nothing at all."""',
        'def f():\n    """Do nothing at all."""\n    pass',
        'def f():\n    """Do nothing at all."""\n    ...',
        'def f():\n    """Do nothing at all."""\n    raise NotImplementedError',
        'def f(): """Say it here."""; return 1',
        'def f():\n    """Say it here."""; return 1',
        'def f():\n    """Too short."""\n    return 1',
        'def f():\n    return 1 # """No docstring here."""',
        'def f(:\n    """Not Python at all."""\n    return 1',
        'x = """Not a docstring here."""\0',
    ],
)
def test_what_teaches_nothing_is_left_out(tmp_path, function):
    assert pairs_of(tmp_path, function) == []


def test_declared_encodings_and_windows_lines_are_read(tmp_path):
    source = '# coding: latin-1\r\ndef f():\r\n    """Größe of the thing."""\r\n    return 1\r\n'
    assert pairs_of(tmp_path, source.encode("latin-1")) == [("f", 2, "Größe of the thing.", "def f():\n    return 1")]
    assert pairs_of(tmp_path, b'def f():\n    """Gr\xf6\xdfe of the thing."""\n    return 1\n') == []


def test_a_file_that_is_gone_or_too_deep_has_no_pairs(tmp_path):
    assert read_pairs(str(tmp_path / "gone.py")) == []
    assert pairs_of(tmp_path, '"""deep"""\nx = ' + "(" * 5000 + ")" * 5000) == []


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Return the sum.", "Return the sum."),
        ("\n    Return the\n    sum.\n\n    Args: none", "Return the sum."),
        ("Example of a use:\n\n>>> 1", "Example of a use:"),
        ("Return x: its value (as float).", "Return x: its value (as float)."),
        ("Cut \ud800 a surrogate.", "Cut a surrogate."),
        ("Two words", None),
        ("1 2 3 4", None),
        ("Args:\n    x: a number of things", None),
        ("Parameters\n----------\nx : a number of things", None),
        ("Examples:\n    a b c", None),
        (":param x: a number of things", None),
        (">>> print(a, b, c)", None),
        ("x (`torch.Tensor` of shape `(batch, length)`):\n    the input of it", None),
        ("input_ids: \n    a number of tokens", None),
        ("@param x a number of things", None),
        ("", None),
    ],
)
def test_a_summary_is_the_first_paragraph_if_it_says_something(docstring, summary):
    assert summarize(docstring) == summary


def test_as_a_script_it_answers_line_by_line(tmp_path):
    (tmp_path / "a.py").write_text('def f():\n    """Return the number one."""\n    return 1\n')
    paths = [str(tmp_path / "a.py"), str(tmp_path / "gone.py")]
    answer = subprocess.run(
        [sys.executable, "-I", docstrings.__file__],
        input="".join(json.dumps(path) + "\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in answer.stdout.splitlines()] == [
        [["f", 1, "Return the number one.", "def f():\n    return 1"]],
        [],
    ]
