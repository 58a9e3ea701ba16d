"""Errors that end a command with an exit code of their own; every message says what was expected, what came, and what mends it."""


class InbatchError(Exception):
    """An error for the user to read: printed as one sentence, without a traceback. ``exit_code`` is the program's.

    Example:
        >>> raise InbatchError("cannot write the checkpoint: no space left on device. Free space.")
        Traceback (most recent call last):
        inbatch.errors.InbatchError: cannot write the checkpoint: no space left on device. Free space.
        >>> InbatchError.exit_code
        1
    """

    exit_code = 1


class UsageError(InbatchError, ValueError):
    """A wrong option, configuration or content of a data file (exit code 2).

    Example:
        >>> raise UsageError("expected batch_size >= 1; got 0. Set data.batch_size.")
        Traceback (most recent call last):
        inbatch.errors.UsageError: expected batch_size >= 1; got 0. Set data.batch_size.
        >>> UsageError.exit_code, issubclass(UsageError, ValueError)
        (2, True)
    """

    exit_code = 2


class MissingError(InbatchError, FileNotFoundError):
    """A file, data set or model that is not there (exit code 3); the message names the command that fetches it.

    Example:
        >>> raise MissingError("there is no file pairs.csv. Set data.sources.")
        Traceback (most recent call last):
        inbatch.errors.MissingError: there is no file pairs.csv. Set data.sources.
        >>> MissingError.exit_code, issubclass(MissingError, FileNotFoundError)
        (3, True)
    """

    exit_code = 3

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TrainingError(InbatchError, RuntimeError):
    """Training cannot go on: a non-finite loss, or a parameter that gets no gradient (exit code 4).

    Example:
        >>> raise TrainingError("the loss is nan at step 12. Lower the learning rate.")
        Traceback (most recent call last):
        inbatch.errors.TrainingError: the loss is nan at step 12. Lower the learning rate.
        >>> TrainingError.exit_code, issubclass(TrainingError, RuntimeError)
        (4, True)
    """

    exit_code = 4


def own_error(error: BaseException) -> InbatchError | None:
    """Find an error of ours among the causes of another library's; None if there is none.

    Example:
        >>> error = RuntimeError("caught in a worker of the data loader")
        >>> own_error(error) is None
        True
        >>> error.__cause__ = UsageError("row 7 has no anchor")
        >>> own_error(error)
        UsageError('row 7 has no anchor')
    """
    while error is not None and not isinstance(error, InbatchError):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error
