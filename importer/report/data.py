"""What a report says, as values: no HTML, no colours, no words of advice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from importer.ledger import RunRecord
from schemas.vocabulary import CallState, Outcome


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that share a state or an agent, by outcome."""

    label: str
    outcomes: Mapping[Outcome, int]

    @property
    def count(self) -> int:
        """Return the calls of the group."""
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Example:
    """One row that stands for others: where it is, and what its hint says."""

    file: str
    line: str
    hint: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Rows rejected for one reason, or calls refused with one answer (``status`` and ``code``), with examples."""

    reason: str
    count: int
    examples: tuple[Example, ...]
    status: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """One uncertain call as a person needs it to look for it in Zoho; ``start_time`` is GMT text."""

    call_id: str
    start_time: str
    agent: str
    customer: str
    reason: str
    file: str
    line: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A time in which no call was sent: its first second (GMT) and how long it lasted."""

    since: datetime
    seconds: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Calls sent over time: counts of spans of ``span_seconds`` from ``start`` (GMT) on, and the longest waits."""

    start: datetime
    span_seconds: int
    counts: tuple[int, ...]
    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page can show; what is not known stays empty and has no place on the page.

    ``skipped_known`` says whether the outcomes count the skipped rows. ``hours`` has the calls of each hour, or,
    where ``hours_are_requests``, the requests sent in it, on the clock of ``zone``. ``ledger`` is where the
    `resolve` lines lead, empty for the default.
    """

    title: str
    source: str
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    skipped_known: bool = False
    states: tuple[Group, ...] = ()
    agents: tuple[Group, ...] = ()
    hours: Mapping[datetime, int] = field(default_factory=dict)
    hours_are_requests: bool = False
    zone: str = "GMT"
    rejected: tuple[Cause, ...] = ()
    refused: tuple[Cause, ...] = ()
    uncertain: tuple[OpenCall, ...] = ()
    uncertain_count: int = 0
    pace: Pace | None = None
    run: RunRecord | None = None
    runs: tuple[RunRecord, ...] = ()
    ledger: str = ""
    ledger_states: Mapping[CallState, int] = field(default_factory=dict)
