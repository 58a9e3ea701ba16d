"""Errors carry the program's exit code and print as one sentence."""

from __future__ import annotations

import pytest

from inbatch.errors import InbatchError, MissingError, TrainingError, UsageError, own_error


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


def test_an_error_of_ours_is_found_among_the_causes():
    ours = UsageError("expected this")
    wrapped = ValueError("no type fits")
    wrapped.__cause__ = KeyError()
    wrapped.__cause__.__context__ = ours
    assert own_error(wrapped) is own_error(ours) is ours
    assert own_error(ValueError()) is None
