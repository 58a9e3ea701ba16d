"""Errors that end a command with an exit code of their own; every message says what was expected, what came, and what mends it."""


class InbatchError(Exception):
    """An error for the user to read: printed as one sentence, without a traceback. ``exit_code`` is the program's."""

    exit_code = 1


class UsageError(InbatchError, ValueError):
    """A wrong option, configuration or content of a data file (exit code 2)."""

    exit_code = 2


class MissingError(InbatchError, FileNotFoundError):
    """A file, data set or model that is not there (exit code 3); the message names the command that fetches it."""

    exit_code = 3

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TrainingError(InbatchError, RuntimeError):
    """Training cannot go on: a non-finite loss, or a parameter that gets no gradient (exit code 4)."""

    exit_code = 4


def own_error(error: BaseException) -> InbatchError | None:
    """Find an error of ours among the causes of another library's; None if there is none."""
    while error is not None and not isinstance(error, InbatchError):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
