"""Errors carry the program's exit code and print as one sentence."""

from __future__ import annotations

import pytest

from inbatch.errors import InbatchError, MissingError, TrainingError, UsageError


@pytest.mark.parametrize(
    ("kind", "code", "builtin"),
    [
        (UsageError, 2, ValueError),
        (MissingError, 3, FileNotFoundError),
        (TrainingError, 4, RuntimeError),
        (InbatchError, 1, Exception),
    ],
)
def test_exit_code_sentence_and_builtin_kind(kind: type[InbatchError], code: int, builtin: type[Exception]):
    error = kind("expected x; got y. Set z.")
    assert error.exit_code == code
    assert isinstance(error, InbatchError)
    assert isinstance(error, builtin)
    assert str(error) == "expected x; got y. Set z."


def test_missing_error_without_a_message_prints_nothing_odd():
    assert str(MissingError()) == ""
