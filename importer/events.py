"""Events of a run for its log: fixed names, levels, and fields without secrets or numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


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
