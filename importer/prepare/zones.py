"""What the ids of a file prove about the clock of its times, held against the zone it is read in.

A row proves an offset only near a quarter hour: later legs of long calls start at any time after their id was
made, so one of them may seem to prove a larger offset, never a smaller one. Hence a zone is contradicted by rows
of at least two ids on one day that outnumber those that agree, or by one that would have started before its id.
Where no row of the file agrees, two ids count on whatever days, if they are as far from the zone as each other.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt
import pandas as pd

from importer.errors import ConfigurationError
from importer.formats.detected import Detection
from importer.formats.language import ZONE_SOURCES
from schemas.times import ProvedOffsets, offsets_of
from schemas.vocabulary import counted
from schemas.zones import COMMON_ZONES, fixed_advice, is_fixed

DAY_SECONDS = 86_400
_KINDS_A_DAY = 4 * DAY_SECONDS
CHANGE_SECONDS = 3 * 3600
"""So near to a change of the clock a row may show either side of it."""

LEAST_IDS = 2
LEAST_SHARE = 0.02
"""Offsets proved by a smaller share of the rows come from later legs of long calls."""
SHOWN_ZONES = 5
MOST_MOMENTS = 60
MARGIN_SECONDS = 2 * DAY_SECONDS
"""So long before the window a row cannot come to stand in it, whatever zone it is read in."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A row whose id proves another offset than its zone has: its line, its time, and the epoch second of its id.

    Offsets are in seconds. Of the rows of that day ``against`` prove the same, ``agreeing`` the zone's offset.
    """

    line: int
    text: str
    epoch: int
    proved: int
    expected: int
    against: int
    agreeing: int


@dataclass(slots=True)
class ZoneEvidence:
    """Collects chunk by chunk what the rows of one file prove; ``zone`` is the one they are read in, if any.

    ``counts`` are rows by the offset in seconds that they prove. ``stated`` collects the same of values that carry
    an offset of their own, held against the GMT that they state. With ``since``, where the window begins (epoch
    second), rows from `MARGIN_SECONDS` before it do not contradict: the clock may have been changed after them.
    """

    zone: str | None
    stated: "ZoneEvidence | None" = None
    since: int | None = None
    counts: Counter[int] = field(default_factory=Counter)
    _agreeing: int = 0
    _rows: Counter[tuple[int, int]] = field(default_factory=Counter)
    _moments: dict[tuple[int, int], int] = field(default_factory=dict)
    _against: dict[tuple[int, int], tuple[int, str, int, int]] = field(default_factory=dict)
    _ids: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def add(self, lines: Ints, texts: pd.Series, rows: ProvedOffsets) -> None:
        """Add what rows of one chunk prove; ``lines`` and ``texts`` are those of all its rows."""
        places, offsets, epochs = rows
        if not len(places):
            return
        days = epochs // DAY_SECONDS
        kinds = days * _KINDS_A_DAY + offsets
        _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
        for place, count in zip(first.tolist(), counts.tolist(), strict=True):
            key = int(days[place]), int(offsets[place])
            self.counts[key[1]] += count
            self._rows[key] += count
            self._moments.setdefault(key, int(epochs[place]))
        if self.zone is None:
            return
        expected = offsets_of(epochs, self.zone)
        contrary = offsets != expected
        self._agreeing += int(np.count_nonzero(~contrary))
        if self.since is not None:
            contrary &= epochs >= self.since - MARGIN_SECONDS
        if not contrary.any():
            return
        for moved in (-CHANGE_SECONDS, CHANGE_SECONDS):
            contrary &= offsets != offsets_of(epochs + moved, self.zone)
        of_kind = np.unique(kinds[contrary], return_index=True)[1]
        for place in np.flatnonzero(contrary)[of_kind].tolist():
            row, day, epoch, proved, had = (int(each[place]) for each in (places, days, epochs, offsets, expected))
            self._against.setdefault((day, proved), (int(lines[row]), str(texts.iloc[row]), epoch, had))
            ids = self._ids.setdefault((day, proved), set())
            ids.update(np.unique(epochs[contrary & (kinds == kinds[place])])[:LEAST_IDS].tolist())

    def join(self, later: "ZoneEvidence | None") -> None:
        """Add what further rows of the file prove, all below these."""
        if later is None:
            return
        self.counts += later.counts
        self._agreeing += later._agreeing
        self._rows += later._rows
        self._moments = later._moments | self._moments
        self._against = later._against | self._against
        for key, ids in later._ids.items():
            self._ids.setdefault(key, set()).update(ids)
        if self.stated is not None:
            self.stated.join(later.stated)

    def contradiction(self) -> Contradiction | None:
        """Return the first row whose time the zone cannot have, None without one."""
        as_far: Counter[int] = Counter()
        for (day, proved), (_, _, _, expected) in self._against.items():
            as_far[proved - expected] += len(self._ids[day, proved])
        for key, (line, text, epoch, expected) in sorted(self._against.items(), key=lambda item: item[1]):
            day, proved = key
            against, agreeing = self._rows[key], self._rows[day, expected]
            ids = len(self._ids[key]) if self._agreeing else as_far[proved - expected]
            if against > agreeing and (ids >= LEAST_IDS or proved < expected):
                return Contradiction(line, text, epoch, proved, expected, against, agreeing)
        return None

    def proved(self) -> list[tuple[int, int]]:
        """Return (epoch second, offset) of what most rows of each day prove."""
        best: dict[int, tuple[int, int]] = {}
        for (day, offset), rows in sorted(self._rows.items()):
            if rows > best.get(day, (0, 0))[0]:
                best[day] = rows, offset
        return [(self._moments[day, offset], offset) for day, (_, offset) in sorted(best.items())]


def zones_that_fit(moments: Iterable[tuple[int, int]]) -> list[str]:
    """Return the IANA zones that have these offsets at these epoch seconds, well-known ones first."""
    spread = sorted(moments)
    step = max(1, len(spread) // MOST_MOMENTS)
    wanted = [(datetime.fromtimestamp(epoch, UTC), offset) for epoch, offset in spread[::step]]
    others = sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))
    fitting = []
    for name in dict.fromkeys((*COMMON_ZONES, *others)) if wanted else ():
        zone = ZoneInfo(name)
        if all(moment.astimezone(zone).utcoffset() == timedelta(seconds=offset) for moment, offset in wanted):
            fitting.append(name)
    return fitting


def shown_zones(moments: Iterable[tuple[int, int]]) -> str:
    """Return the zones that fit as a person reads them."""
    fitting = zones_that_fit(moments)
    more = f" and {len(fitting) - SHOWN_ZONES} more" if len(fitting) > SHOWN_ZONES else ""
    none = "none: its clock was set by hand, or changed (then take --since, two days after that or later)"
    return ", ".join(fitting[:SHOWN_ZONES]) + more if fitting else none


def shown_evidence(evidence: ZoneEvidence) -> list[str]:
    """Return what the ids prove as lines for a person: which offsets, and which zones have them."""
    rows = evidence.counts.total()
    frequent = sorted(offset for offset, count in evidence.counts.items() if count >= LEAST_SHARE * rows)
    span = " to ".join(offset_text(offset) for offset in dict.fromkeys((frequent[0], frequent[-1])))
    each = ", ".join(f"{offset_text(offset)} in {counted(evidence.counts[offset], 'row')}" for offset in frequent)
    prove = counted(rows, "row proves", "rows prove")
    return [
        f"the ids of {prove} that the clock stood at {span} ({each})",
        f"zones that fit: {shown_zones(evidence.proved())}",
    ]


def offset_text(seconds: int) -> str:
    """Return an offset as `UTC+05:30`."""
    minutes = abs(seconds) // 60
    return f"UTC{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def require_zone(evidence: ZoneEvidence, name: str, *, must_be_proved: bool) -> None:
    """Raise ConfigurationError where the ids of the file ``name`` prove another zone, or another offset.

    With ``must_be_proved`` also where its own zone has no summer time and the ids do not show it on every day. One
    row in summer time is enough: such a zone has no changes of the clock near which rows may differ.
    """
    stated = evidence.stated.contradiction() if evidence.stated else None
    if found := stated or evidence.contradiction():
        moment = datetime.fromtimestamp(found.epoch, UTC)
        made = f"the id of the row was made at {found.epoch} ({moment:%Y-%m-%d %H:%M:%S} GMT)"
        rows = f"told by {found.against} row{'s' if found.against > 1 else ''} of that day, {found.agreeing} agree"
        fault = f"carries a wrong offset: {made}, not at the moment it names ({rows})"
        hint = "Export the times without an offset, or with the right one. Nothing was sent."
        if not stated:
            fault = (
                f"is no time of {evidence.zone}: {made}, so the clock stood at {offset_text(found.proved)}, "
                f"not at {offset_text(found.expected)} ({rows} with the zone)"
            )
            fitting = shown_zones(evidence.proved())
            hint = f"Correct --timezone. Zones that fit this file: {fitting}. Nothing was sent."
        raise ConfigurationError(
            f'{name}: line {found.line}: "{found.text}" {fault}', hint=hint, reason="timezone"
        )
    if evidence.zone is None or not must_be_proved or not is_fixed(evidence.zone):
        return
    proved = evidence.proved()
    expected = int(offsets_of(np.zeros(1, dtype=np.int64), evidence.zone)[0])
    summer = {expected + moved for moved in (-3600, -1800, 1800, 3600)}
    if {offset for _, offset in proved} != {expected} or not summer.isdisjoint(evidence.counts):
        fitting = f" Zones that fit this file: {shown_zones(proved)}." if proved else ""
        raise _no_place(evidence.zone, name, f"{fitting} Only ids with a clock could prove it.")


def require_place(detection: Detection, zone: str | None) -> None:
    """Raise ConfigurationError where times would be read in a zone without summer time that no id can prove."""
    time = detection.format.time
    if zone is None or not is_fixed(zone) or time.zone not in ZONE_SOURCES or detection.times_carry_offsets():
        return
    if time.evidence is None:
        raise _no_place(zone, str(detection.path), " The ids of this format cannot prove it.")


def _no_place(zone: str, name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: {fixed_advice(zone)}", hint=f"Correct --timezone.{why} Nothing was sent.", reason="timezone"
    )
