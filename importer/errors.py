"""Exit codes, and exceptions grouped by who must act.

A message says what failed, where, the value and the rule; ``hint`` says what to do next, and ``lines`` what needs
lines of its own below it: a command, a list. None may hold a secret or a telephone number: all are printed.
``reason`` is one word for the summary, where the exit code alone does not say why.
"""

import re
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

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "", lines: tuple[str, ...] = (), reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.lines = lines
        self.reason = reason


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code that an error ends a run with: its own, or INTERNAL for a bug of ours."""
    if is_refusal(error):
        return ExitCode.CONFIGURATION
    return error.exit_code if isinstance(error, ImporterError) else ExitCode.INTERNAL


def is_refusal(error: BaseException) -> TypeGuard[PermissionError]:
    """Return whether the system did not let this user look at a path that nothing else has an error for."""
    return isinstance(error, PermissionError) and error.filename is not None


def reason_of(error: BaseException) -> str:
    """Return one word for a failure: its own, the name of its class, or `internal` for a bug of ours."""
    if not isinstance(error, ImporterError):
        return "configuration" if is_refusal(error) else "internal"
    if error.reason:
        return error.reason
    words = re.findall("[A-Z][a-z]*", type(error).__name__.removesuffix("Error"))
    return "_".join(words).lower()


class ConfigurationError(ImporterError):
    """The operator mends options, configuration, secrets, agents file or a format of their own."""

    exit_code = ExitCode.CONFIGURATION


class UsageError(ImporterError):
    """An option on the command line has a value that cannot be used."""

    exit_code = ExitCode.USAGE


class InputUnusableError(ImporterError):
    """A file is of an unknown or ambiguous format, damaged, or too large a share of its rows is rejected."""

    exit_code = ExitCode.INPUT_UNUSABLE


class NoInputError(ImporterError):
    """A file is not there or cannot be read, or the input is older or shorter than it is expected to be."""

    exit_code = ExitCode.NO_INPUT


class CannotCreateError(ImporterError):
    """The results file cannot be written."""

    exit_code = ExitCode.CANNOT_CREATE


class StoppedError(ImporterError):
    """A signal came in, or a person said no, before anything was sent; for a signal the exit code is its own."""

    exit_code = ExitCode.INTERRUPTED


class LedgerError(ImporterError):
    """The ledger cannot be read or written: disk, damage, or not a ledger."""

    exit_code = ExitCode.LEDGER


class TryLaterError(ImporterError):
    """Another run holds the ledger, or a wait is longer than allowed."""

    exit_code = ExitCode.TRY_LATER


class UnavailableError(ImporterError):
    """The service is out of reach; nothing is lost, the next run goes on."""

    exit_code = ExitCode.UNAVAILABLE


class ProtocolError(ImporterError):
    """What answers is not the API."""

    exit_code = ExitCode.PROTOCOL


class NotPermittedError(ImporterError):
    """Sign-in or permission refused; a person must authorise again."""

    exit_code = ExitCode.NOT_PERMITTED
