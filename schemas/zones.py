"""Names of time zones: those of the IANA database, clocks without summer time, and what a person may mean."""

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

_COMMON_ZONES: Final = """
    UTC Europe/London Europe/Dublin Europe/Lisbon Europe/Paris Europe/Berlin Europe/Madrid Europe/Rome
    Europe/Athens Europe/Istanbul Europe/Moscow Asia/Dubai Asia/Karachi Asia/Kolkata Asia/Dhaka
    Asia/Bangkok Asia/Singapore Asia/Shanghai Asia/Tokyo Australia/Perth Australia/Brisbane
    Australia/Sydney Pacific/Auckland America/Sao_Paulo America/Argentina/Buenos_Aires America/Halifax
    America/New_York America/Chicago America/Mexico_City America/Denver America/Phoenix
    America/Los_Angeles America/Anchorage Pacific/Honolulu Africa/Johannesburg Africa/Lagos
    Africa/Nairobi Africa/Cairo
"""
COMMON_ZONES: Final = (*_COMMON_ZONES.split(),)
"""Zones named first where several fit."""

MOST_PROPOSALS: Final = 3
_LEAST_LIKENESS: Final = 0.75
_FIXED_HOURS: Final[Mapping[str, int]] = {"EST": -5, "MST": -7, "HST": -10}
_NAMED_OFFSET: Final = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2})(?::?(\d\d))?")
_YEAR: Final = 2026
"""The year in whose winter and summer the clock of a zone is looked at."""


def is_zone(name: str) -> bool:
    """Return whether ``name`` is a time zone of the IANA database, spelt as there."""
    # Debian's zone folder holds these beside the zones; right/ counts leap seconds.
    if name.startswith(("right/", "posix/")) or name in {"localtime", "posixrules", "Factory"}:
        return False
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def is_fixed(name: str) -> bool:
    """Return whether a zone is a bare offset from GMT other than 0: no place, and a clock without summer time.

    These are ``EST``, ``MST``, ``HST`` and ``Etc/GMT-14`` to ``Etc/GMT+12``, which mean the same offset all year.
    ``EST5EDT``, ``CET`` and their like have summer time.
    """
    found = re.fullmatch(r"Etc/GMT[+-](\d+)", name)
    return name in _FIXED_HOURS or (found is not None and int(found[1]) != 0)


def country_of(zone: str) -> str | None:
    """Return the ISO 3166 code of the country of a zone, None where it has none (`zone.tab` of tzdata)."""
    table = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8")
    found = re.search(rf"^([A-Z]{{2}})\t\S+\t{re.escape(zone)}(?:\t.*)?$", table, re.MULTILINE)
    return found[1] if found else None


def fixed_advice(name: str) -> str:
    """Return what to write instead of a zone that is a bare offset, without a full stop."""
    hours = _FIXED_HOURS.get(name)
    # POSIX counts westward: Etc/GMT+5 is five hours behind GMT.
    offset = timedelta(hours=-int(name.removeprefix("Etc/GMT")) if hours is None else hours)
    return f"{name} is a clock without summer time: name the place that is meant, {_shown(_places(offset))}"


def zone_advice(text: str) -> str:
    """Return what to write instead of a text that names no zone, without a full stop: the likeliest come first.

    Understood are names of Windows (Unicode CLDR's windowsZones), other letter case, a city alone, what clocks
    call their time (``PST``, ``CEST``), offsets (``UTC+1``) and slips of the pen.
    """
    from tzlocal.windows_tz import win_tz  # 30 ms, for messages only

    windows = {name.casefold(): zone for name, zone in win_tz.items()}
    key = _key(text)
    names = [name for name in dict.fromkeys((*COMMON_ZONES, *sorted(available_timezones()))) if not is_fixed(name)]
    found = [*filter(None, [windows.get(text.strip().casefold())])]
    found += [name for name in names if _key(name) == key]
    found = found or [name for name in names if "/" in name and _key(name.rpartition("/")[2]) == key]
    for name in COMMON_ZONES if not found else ():
        clocks = (datetime(_YEAR, month, 1, tzinfo=ZoneInfo(name)).tzname() or "" for month in (1, 7))
        found += [name] if key in map(_key, clocks) else []
    offset = _NAMED_OFFSET.fullmatch(text.replace(" ", ""))
    if offset and not found:
        distance = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        found = _places(-distance if offset[1] == "-" else distance)
    if not found:
        keys = {_key(each): name for name in reversed(names) for each in (name, name.rpartition("/")[2])}
        near = difflib.get_close_matches(key, keys, n=MOST_PROPOSALS, cutoff=_LEAST_LIKENESS)
        found = [keys[each] for each in near]
    found = [*dict.fromkeys(found)][:MOST_PROPOSALS]
    return f"likely meant: {_shown(found)}" if found else "write it like Europe/Berlin"


def _shown(zones: Iterable[str]) -> str:
    """Return zones as a choice; those without summer time are marked."""
    shown = [zone if len(set(_offsets(zone))) > 1 else f"{zone} (no summer time)" for zone in zones]
    return " or ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:]))) or "like Europe/Berlin"


def _places(offset: timedelta) -> list[str]:
    """Return well-known places whose clocks have this offset in winter, at most three."""
    return [zone for zone in COMMON_ZONES if min(_offsets(zone)) == offset][:MOST_PROPOSALS]


@lru_cache(maxsize=256)
def _offsets(zone: str) -> tuple[timedelta, timedelta]:
    january, july = (datetime(_YEAR, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)) for month in (1, 7))
    return january.utcoffset() or timedelta(), july.utcoffset() or timedelta()


def _key(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "", name.casefold())
