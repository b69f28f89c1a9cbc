"""What the operator wants of preparing: zone, country, agents, window, states, policies; the rules of a file.

Nothing about a zone, a window or an agent is left open.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from importer.errors import ConfigurationError, UsageError
from importer.formats.catalogue import Catalogue
from importer.formats.detected import Detection
from importer.formats.language import CauseTable, CdrFormat
from importer.prepare.agents import AgentBook, load_agents
from importer.prepare.groups import INDEX_ROWS
from importer.prepare.zones import require_place
from importer.reading.chunks import CHUNK_ROWS
from importer.reading.conditions import Extensions
from importer.settings.loading import nearest
from importer.settings.options import EVERY_FORMAT, POLICIES, PolicyChoices, Settings
from importer.settings.values import parse_moment
from schemas.numbers import NumberBook
from schemas.vocabulary import State


@dataclass(frozen=True, slots=True)
class Policies:
    """The `PolicyChoices` in force for one format, by default those of the contract."""

    cancelled_ring_seconds: int = 10
    cancelled_unknown: str = "noanswer"
    voicemail: str = "noanswer"
    our_side: str = "skip"
    outside_prefix: tuple[str, ...] = ()
    extensions: str = ""
    trunks: str = ""


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """Every choice that was made: for this run, and in the configuration by format (`EVERY_FORMAT` for all)."""

    run: PolicyChoices = field(default_factory=PolicyChoices)
    configured: Mapping[str, PolicyChoices] = field(default_factory=dict)

    def of(self, cdr_format: CdrFormat) -> Policies:
        """Return what is in force for a format."""
        in_force: dict[str, Any] = {name: value for name, (value, _) in self.sources(cdr_format).items()}
        return Policies(**in_force)

    def sources(self, cdr_format: CdrFormat) -> dict[str, tuple[int | str | tuple[str, ...], str]]:
        """Return the value of each policy for a format and where it is set; the most particular place counts."""
        nothing = PolicyChoices()
        places = (
            ("this run", self.run),
            (f"configuration, [policies.{cdr_format.name}]", self.configured.get(cdr_format.name, nothing)),
            ("configuration", self.configured.get(EVERY_FORMAT, nothing)),
            ("default", PolicyChoices(**asdict(Policies()))),
        )
        return {
            name: next((value, who) for who, choices in places if (value := getattr(choices, name)) is not None)
            for name in POLICIES
        }


@dataclass(slots=True)
class Gaps:
    """Finds times of more than ``most_seconds`` in which no row came: between two rows, or up to the run.

    In whatever order and file the rows stand. ``spans`` are first and last start of rows that no such gap parts;
    memory grows with gaps only.
    """

    most_seconds: float
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, starts: npt.NDArray[np.int64]) -> None:
        """Take the starts of some rows into account, as epoch seconds in any order."""
        if len(starts):
            ordered = np.sort(starts)
            ends = np.flatnonzero(np.diff(ordered) > self.most_seconds)
            firsts, lasts = ordered[[0, *(ends + 1)]].tolist(), ordered[[*ends, -1]].tolist()
            self.join(Gaps(self.most_seconds, [*zip(firsts, lasts, strict=True)]))

    def join(self, other: "Gaps | None") -> None:
        """Take the starts into account that another one has taken."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*self.spans, *(other.spans if other else ())]):
            if merged and first - merged[-1][1] <= self.most_seconds:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        self.spans = merged

    def until(self, now: int) -> list[tuple[int, int]]:
        """Return the gaps up to ``now`` as first and last second, the longest first; from 0 where no row came."""
        spans = [*(self.spans or [(0, 0)]), (now, now)]
        found = [(last, first) for (_, last), (first, _) in pairwise(spans) if first - last > self.most_seconds]
        return sorted(found, key=lambda gap: gap[0] - gap[1])


@dataclass(frozen=True, slots=True)
class PreparePlan:
    """Everything that preparing needs to know besides the files.

    ``now`` is the epoch second of the run's start: a call cannot start after it. Wanted are calls that start in
    [``since``, ``until``), as epoch seconds; None is open. ``all_rows`` keeps the rows that are skipped. ``held``
    returns for the call ids that the ledger has whether an attended row contradicts it; None without a ledger.
    ``is_one_of_several``: rows of a call may stand in another file. ``trust_country``: numbers of another
    country are no error. ``gaps`` gets the starts of all rows, also of those that are no outgoing calls.
    """

    agents: AgentBook
    now: int
    timezone: str | None = None
    country: str | None = None
    trust_country: bool = False
    site: str = ""
    since: int | None = None
    until: int | None = None
    states: frozenset[State] = frozenset(State)
    policies: PolicyBook = field(default_factory=PolicyBook)
    all_rows: bool = False
    is_one_of_several: bool = False
    held: Callable[[Sequence[str]], Mapping[str, bool]] | None = None
    gaps: Gaps | None = None
    chunk_rows: int = CHUNK_ROWS
    index_rows: int = INDEX_ROWS


def prepare_plan(
    settings: Settings, catalogue: Catalogue, detections: Sequence[Detection], now: float
) -> PreparePlan:
    """Return the rules for preparing files, ``now`` being an epoch second; `--since` and `--until` become moments.

    Raises ConfigurationError when a file's local times need a zone and none is given, or one without summer time
    that no id could prove: nothing is guessed. Raises UsageError for a window that no call fits.
    """
    for detection in detections:
        require_place(detection, settings.timezone)
        if settings.timezone is None and detection.needs_timezone():
            raise ConfigurationError(
                f"{detection.path}: the times of format {detection.format.name} are local and name no zone",
                hint="Say whose clock it is with --timezone, for example --timezone Europe/London.",
                reason="timezone",
            )
    moment = datetime.fromtimestamp(now, UTC)
    since, until = (
        parse_moment(text, now=moment, timezone=settings.timezone) if text else None
        for text in (settings.since, settings.until)
    )
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"--since {settings.since} is not before --until {settings.until}: no call starts between them",
            hint="The window begins with --since and ends just before --until.",
        )
    number, user = settings.default_agent_number or "", settings.default_zohouser or ""
    path = settings.agents
    agents = AgentBook() if path is None else load_agents(path, settings.country, settings.encoding)
    return PreparePlan(
        agents=replace(agents, default_number=number, default_zohouser=user),
        now=int(now),
        timezone=settings.timezone,
        country=settings.country,
        trust_country=settings.trust_country,
        site=settings.site,
        since=since,
        until=until,
        states=settings.states,
        policies=policy_book(settings, {*catalogue.formats, *(each.format.name for each in detections)}),
        all_rows=settings.all_rows,
        is_one_of_several=len(detections) > 1,
        gaps=None if settings.max_gap is None else Gaps(settings.max_gap),
    )


def policy_book(settings: Settings, formats: Collection[str]) -> PolicyBook:
    """Return every choice of policies; raises ConfigurationError where one is for none of these formats."""
    unknown = sorted(settings.policies.keys() - {*formats, EVERY_FORMAT})
    if unknown:
        todo = "`cdr-importer formats` lists all; put a format of your own into its folder, or take the table out."
        raise ConfigurationError(
            f"configuration: [policies.{unknown[0]}]: there is no format of this name",
            hint=f"{nearest(unknown[0], formats)} {todo}".lstrip(),
        )
    return PolicyBook(settings, settings.policies)


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about the rows of one file: its format, the cause tables, and what the operator wants.

    ``headers`` are the columns that the file has, as it spells them; ``numbers`` reads its telephone numbers,
    ``plain_numbers`` those that nobody dials a prefix for: agents', and what the system sent to the line;
    ``extensions`` says how our own internal numbers are recognised, also by what the rows prove of the names at
    the ends of calls; ``time_formats`` are the layouts of the start. ``is_resaved`` says that a spreadsheet
    program wrote its dates anew, and may hide their seconds, ``shows_seconds`` that some have them,
    ``had_groups`` that a program had parted the thousands of ids; one of ``zone_lines`` is held against the zone.
    When the file is read, ``name`` is as the operator gave it, ``keeps_zeros`` says that an id ends in 0, and
    ``filled`` are the columns of ids that are not empty throughout.
    """

    format: CdrFormat
    causes: Mapping[str, CauseTable]
    plan: PreparePlan
    numbers: NumberBook
    plain_numbers: NumberBook
    policies: Policies
    headers: Mapping[str, str]
    extensions: Extensions
    time_formats: tuple[str, ...]
    is_resaved: bool
    shows_seconds: bool
    had_groups: bool
    zone_lines: int = 1
    name: str = ""
    keeps_zeros: bool = True
    filled: frozenset[str] = frozenset()

    def id_scheme(self) -> tuple[str, ...]:
        """Return site, format and the columns from which call ids are made, as the format spells them.

        A column that ties rows which have ids of their own, such as a parent's id, is left out: without it a call
        still gets the id of one of its rows. So is one that is empty throughout, where others stand in for it.
        """
        own, candidates = {*self.format.call.row}, [*self.format.call.id, self.format.call.unique_by]
        names = {
            name
            for place, some in enumerate(candidates)
            if own.issuperset(some) or not any(each and own.issuperset(each) for each in candidates[place + 1 :])
            for name in some
        }
        # By the rule `least` it ties rows too, and a key without an id needs all its columns.
        needed = self.filled | {*self.format.call.unique_by}
        lacking = self.format.id_columns() - needed if self.format.call.id_rule == "first" else set()
        there = {*chain.from_iterable(map(self.format.origins, names))} & (self.headers.keys() - lacking)
        return (self.plan.site, self.format.name, *sorted(map(self.format.shown, there)))

    def shown(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return columns as the operator finds them in the file, without those that the file lacks.

        Where it lacks them all they are named as the format spells them.
        """
        origins = [self.format.origins(name) for name in names]
        there = [next((self.headers[each] for each in found if each in self.headers), "") for found in origins]
        shown = [column for column in there if column] or [self.format.shown(found[0]) for found in origins]
        return tuple(dict.fromkeys(shown))
