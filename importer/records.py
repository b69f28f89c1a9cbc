"""The frozen values that cross module borders, from a call read to a line of the results file, and a log's events.

Events have fixed names, levels, and fields without secrets or numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

from importer.errors import ExitCode
from schemas.vocabulary import CallState, Outcome, State

OUTCOME_OF_STATE: Mapping[CallState, Outcome] = {
    CallState.ACCEPTED: Outcome.ACCEPTED,
    CallState.REFUSED: Outcome.REFUSED,
    CallState.UNCERTAIN: Outcome.UNCERTAIN,
    CallState.SENDING: Outcome.UNCERTAIN,
    CallState.PENDING: Outcome.PENDING,
    CallState.CLOSED: Outcome.SKIPPED,
}
"""Outcome in the results of a call that has this state in the ledger when its run ends."""


COMPLETE_EXIT_CODES = (int(ExitCode.OK), int(ExitCode.PARTIAL), int(ExitCode.UNCERTAIN))
STOPPED_REASONS = ("max_errors", "max_uncertain")
"""A complete run ends with one of these codes and for none of these reasons: it leaves nothing for the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record starts: the file as the operator named it, and its physical line (header = line 1)."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """One outgoing call that the customer did not attend, ready to be notified.

    ``agent_number`` and ``customer_number`` are E.164 with ``+``; ``start_time`` is GMT text
    ``yyyy-MM-dd HH:mm:ss``; ``zohouser``, ``voiceuri`` and ``source_id`` are empty where there is none;
    ``id_scheme`` is the site, the format and the columns of the export from which call ids are made.
    """

    call_id: str
    state: State
    agent_number: str
    customer_number: str
    start_time: str
    zohouser: str
    voiceuri: str
    source_id: str
    place: Place
    id_scheme: tuple[str, ...] = ("", "")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of one call sent: the state that the answer proves, and the answer's own words.

    ``state`` is ``accepted``, ``refused``, ``uncertain`` or ``pending`` (proved not applied). ``reason`` is a
    stable slug and ``hint`` a sentence for the results file; ``http_status`` is None without an answer.
    """

    call_id: str
    state: CallState
    reason: str = ""
    hint: str = ""
    http_status: int | None = None
    code: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may take: connecting, between bytes, in all; and how long a connection may rest.

    ``connect_seconds`` is for looking the host up and again for each of its addresses. A connection that rested
    longer than ``idle_seconds``, or nearly as long as the server said in `Keep-Alive`, is not used again: servers
    close idle connections just as the next request is written, which makes an uncertain call of a call that was
    never sent.
    """

    connect_seconds: float = 10.0
    gap_seconds: float = 30.0
    deadline_seconds: float = 60.0
    idle_seconds: float = 4.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before all was sent."""

    exit_code: ExitCode
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of the results file: `RESULT_COLUMNS`, and what distinguishes rejected rows (``content``)."""

    place: Place
    outcome: Outcome
    call_id: str = ""
    state: str = ""
    agent_number: str = ""
    customer_number: str = ""
    start_time: str = ""
    zohouser: str = ""
    source_id: str = ""
    reason: str = ""
    hint: str = ""
    http_status: int | None = None
    code: str = ""
    attempts: int = 0
    sent_at: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The counts of one run.

    ``rows`` are the records read; ``carried`` the calls of earlier runs that this one took up. Each of them is
    in ``outcomes`` exactly once; ``skipped`` and ``rejected`` count such rows by reason. The ledger
    holds ``held_uncertain`` calls uncertain, of this run or earlier ones, since ``uncertain_since`` (GMT text).
    """

    run_id: str
    exit_code: ExitCode
    reason: str
    rows: int
    carried: int
    outcomes: Mapping[Outcome, int]
    skipped: Mapping[str, int] = field(default_factory=dict)
    results: Path | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    held_uncertain: int = 0
    uncertain_since: str = ""

    def adds_up(self) -> bool:
        """Return whether every row read and every call taken up ended as exactly one outcome."""
        return sum(self.outcomes.values()) == self.rows + self.carried and sum(
            self.skipped.values()
        ) == self.outcomes.get(Outcome.SKIPPED, 0)


OK, LOOK, ACT = "ok", "look", "act"


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one thing: ``state`` is `OK`, `LOOK` or `ACT`, ``hint`` what to do where not `OK`."""

    state: str
    name: str
    found: str
    hint: str = ""


class Level(IntEnum):
    """How much an event matters: ERROR = a person must act, WARN = a call did not end accepted."""

    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40


class EventName(StrEnum):
    """The name of an event; stable, since scripts search and count lines of a log."""

    RUN_STARTED = "run.started"
    RUN_NOTE = "run.note"
    RUN_FINISHED = "run.finished"
    FILE_READ = "file.read"
    FILE_PROBLEM = "file.problem"
    RUN_PROGRESS = "run.progress"
    CALLS_WAITING = "calls.waiting"
    CALL_ACCEPTED = "call.accepted"
    CALL_PENDING = "call.pending"
    CALL_REFUSED = "call.refused"
    CALL_UNCERTAIN = "call.uncertain"
    WAIT_BEGAN = "wait.began"
    TOKEN_ASKED = "token.asked"  # noqa: S105 a name, not a secret
    LEDGER_WRITE_FAILED = "ledger.write_failed"
    PING_FAILED = "ping.failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; the values of ``fields`` hold no secret, no telephone number and no text of a third party."""

    name: EventName
    level: Level = Level.INFO
    fields: Mapping[str, object] = field(default_factory=dict)


def ignore(*_: object) -> None:
    """Do nothing: the default of a callback."""
