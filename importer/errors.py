"""Exit codes, and exceptions grouped by who must act.

A message says what failed, where, the value and the rule; ``hint`` says what to do next, and ``lines`` what needs
lines of its own below it: a list. None may hold a secret or a telephone number: all are printed.
``reason`` is one word for the summary, where the exit code alone does not say why.
"""

from enum import IntEnum
from typing import TypeGuard


class ExitCode(IntEnum):
    """The contract with cron: one number, the most severe reason of the run."""

    OK = 0
    USAGE = 2
    PARTIAL = 3
    UNCERTAIN = 4
    INPUT_UNUSABLE = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    INTERNAL = 70
    CANNOT_CREATE = 73
    LEDGER = 74
    TRY_LATER = 75
    PROTOCOL = 76
    NOT_PERMITTED = 77
    CONFIGURATION = 78
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


SEVERITY = (70, 74, 129, 130, 143, 78, 77, 76, 4, 73, 66, 65, 2, 69, 75, 3, 0)
"""Exit codes, most severe first."""


def most_severe(codes: list[ExitCode]) -> ExitCode:
    """Return the code that wins when several apply; OK when none does."""
    return min(codes, key=lambda code: SEVERITY.index(int(code)), default=ExitCode.OK)


class ImporterError(Exception):
    """Base of every failure that is expected to happen; anything else is a bug of ours (exit 70)."""

    exit_code = ExitCode.INTERNAL

    def __init_subclass__(cls, exit_code: ExitCode | None = None) -> None:
        """Take the exit code that the line of a class names; without one it is that of the class above."""
        cls.exit_code = exit_code or cls.exit_code

    def __init__(self, message: str, *, hint: str = "", lines: tuple[str, ...] = (), reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.lines = lines
        self.reason = reason


def is_refusal(error: BaseException) -> TypeGuard[PermissionError]:
    """Return whether the system kept this user from a path, in a place that raises no error of ours for that."""
    return isinstance(error, PermissionError) and error.filename is not None


def ending_of(error: BaseException) -> tuple[ExitCode, str]:
    """Return the exit code that an error ends a run with, and one word for it: its own or that of the code."""
    code, reason = ExitCode.INTERNAL, ""
    if isinstance(error, ImporterError):
        code, reason = error.exit_code, error.reason
    elif is_refusal(error):
        code = ExitCode.CONFIGURATION
    return code, reason or code.name.lower()


class ConfigurationError(ImporterError, exit_code=ExitCode.CONFIGURATION):
    """The operator mends options, configuration, secrets, agents file or a format of their own."""


class UsageError(ImporterError, exit_code=ExitCode.USAGE):
    """An option on the command line has a value that cannot be used."""


class InputUnusableError(ImporterError, exit_code=ExitCode.INPUT_UNUSABLE):
    """A file is of an unknown or ambiguous format, damaged, or too large a share of its rows is rejected."""


class NoInputError(ImporterError, exit_code=ExitCode.NO_INPUT):
    """A file is not there or cannot be read, or the input is older or shorter than it is expected to be."""


class CannotCreateError(ImporterError, exit_code=ExitCode.CANNOT_CREATE):
    """The results file cannot be written."""


class StoppedError(ImporterError, exit_code=ExitCode.INTERRUPTED):
    """A signal came in, or a person said no, before anything was sent; for a signal the exit code is its own."""


class LedgerError(ImporterError, exit_code=ExitCode.LEDGER):
    """The ledger cannot be read or written: disk, damage, or not a ledger."""


class TryLaterError(ImporterError, exit_code=ExitCode.TRY_LATER):
    """Another run holds the ledger, or a wait is longer than allowed."""


class UnavailableError(ImporterError, exit_code=ExitCode.UNAVAILABLE):
    """The service is out of reach; nothing is lost, the next run goes on."""


class ProtocolError(ImporterError, exit_code=ExitCode.PROTOCOL):
    """What answers is not the API."""


class NotPermittedError(ImporterError, exit_code=ExitCode.NOT_PERMITTED):
    """Sign-in or permission refused; a person must authorise again."""
