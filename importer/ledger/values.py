"""What goes into the ledger and comes out of it beside calls and receipts: all that others get of its tables."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from importer.errors import ExitCode, ImporterError
from importer.records import Call
from schemas.vocabulary import CallState, Outcome


class LedgerInvariantError(ImporterError, exit_code=ExitCode.INTERNAL):
    """A step asked for something that the states of a call forbid: a bug of ours, and nothing was written."""


class Decision(StrEnum):
    """What a person found out about an uncertain call."""

    SENT = "sent"
    NOT_SENT = "not_sent"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Who writes: the run's id, when it started (GMT text) and the program's version.

    ``command`` is the command's name, ``results`` the path of the results file; ``settings`` is a JSON object
    without secrets, ``inputs`` a JSON list of ``{file, sha256, bytes, rows}``.
    """

    run_id: str
    started_at: str
    version: str
    command: str = ""
    results: str = ""
    settings: str = "{}"
    inputs: str = "[]"


@dataclass(frozen=True, slots=True)
class RunRecord(RunInfo):
    """What the ledger keeps of a run.

    ``finished_at`` (GMT text) is None while it goes on and after it died; ``exit_code`` stays None for a run
    that died and was settled by a later one.
    """

    finished_at: str | None = None
    exit_code: int | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What the ledger knows of a call: why it stands where it stands, and the last answer's words.

    ``attempts`` counts requests begun over all runs; ``sent_at`` is when the last one began, in GMT.
    """

    reason: str = ""
    hint: str = ""
    http_status: int | None = None
    code: str = ""
    attempts: int = 0
    sent_at: str = ""
    state: CallState = CallState.PENDING


class Staged(NamedTuple):
    """What taking one call in came to; ``outcome`` is None when the call is now pending.

    ``receipt`` has what was known of it before, but no state. ``call`` is only for a call shown attended: what was
    to be posted of it, None where that is settled.
    """

    call_id: str
    outcome: Outcome | None
    receipt: Fate
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """One pending call to be sent.

    ``turn`` is its place in the order of sending, ``attempts`` the requests begun before. ``own_run`` is False for
    a call that an earlier run staged and this run's input did not hold.
    """

    turn: int
    call: Call
    attempts: int
    own_run: bool


@dataclass(frozen=True, slots=True)
class ReportedCall:
    """Where a call stands since a backup, as results files or a person say, and when it was sent (GMT) or empty.

    ``call`` is what may have been posted of it, which only an uncertain one needs.
    """

    call_id: str
    state: CallState
    sent_at: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What taking a backup up came to: calls made accepted, accepted ones added, calls made uncertain.

    ``forgotten`` counts open calls that were closed, since their number was forgotten after the backup, ``closed``
    those that a person had closed since.
    Unknown calls that start before ``doubt_before`` (GMT text) are not sent by themselves; None when the
    results reported everything.
    """

    accepted: int
    added: int
    uncertain: int
    doubt_before: str | None
    forgotten: int = 0
    closed: int = 0
