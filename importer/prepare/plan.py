"""What the operator wants of preparing: zone, country, agents, window, states, policies."""

from dataclasses import dataclass

from importer.prepare.agents import AgentBook
from schemas.vocabulary import State


@dataclass(frozen=True, slots=True)
class Policies:
    """What the operator decides about rows that leave room; the defaults are the contract's.

    A call that the agent cancelled counts as ``noanswer`` when it rang at least this long, or when the export
    cannot tell; voicemail and machines count as ``noanswer``.
    """

    cancelled_ring_seconds: int = 10


@dataclass(frozen=True, slots=True)
class Window:
    """Calls that start in [since, until), as epoch seconds; None is open."""

    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class PreparePlan:
    """Everything that preparing needs to know besides the files.

    ``now`` is the epoch second of the run's start: a call cannot start after it. ``all_rows`` keeps the rows
    that are skipped.
    """

    agents: AgentBook
    now: int
    timezone: str | None = None
    country: str | None = None
    site: str = ""
    window: Window = Window()
    states: frozenset[State] = frozenset(State)
    policies: Policies = Policies()
    all_rows: bool = False
    chunk_rows: int = 50_000
