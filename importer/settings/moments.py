"""Moments of a time window: what ``--since`` and ``--until`` may say, and which second that is."""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from importer.errors import UsageError
from importer.settings.naming import SHOWN_CHARACTERS

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?"
_DATE = re.compile(_DAY)
_DATE_TIME = re.compile(rf"{_DAY}[ T]{_CLOCK}(?:Z|[+-][0-9]{{2}}:?[0-5][0-9])?")
_AGO = re.compile(r"([0-9]{1,4})([hdw])")
_AGO_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DAYS_BACK = {"today": 0, "yesterday": 1}
MOMENT_HINT = "Write 2026-03-01, 2026-03-01 14:30, 2026-03-01T14:30Z, 12h, 2d, 3w, today or yesterday."


def is_moment(text: str) -> bool:
    """Say whether ``text`` has one of the forms that `parse_moment` understands."""
    return text in _DAYS_BACK or any(form.fullmatch(text) for form in (_DATE, _DATE_TIME, _AGO))


def parse_moment(text: str, *, now: datetime, timezone: str | None) -> int:
    """Return the moment an option names, in seconds since the epoch.

    Understood are dates, date-times (in ``timezone`` unless they carry ``Z`` or an offset), ``12h``, ``2d``,
    ``3w`` before ``now`` (days of 24 h), ``today`` and ``yesterday``. A day stands for its first instant, also
    where the zone's clock shows its midnight twice or skips it. ``now`` is aware.

    Raises:
        UsageError: another form, no such date, no time zone for a local time, or a local date-time that the
            zone's clock skips or shows twice.
    """
    try:
        if match := _AGO.fullmatch(text):
            return int((now - int(match[1]) * _AGO_UNITS[match[2]]).timestamp())
        if text in _DAYS_BACK or _DATE.fullmatch(text):
            zone = _zone(text, timezone)
            is_word = text in _DAYS_BACK
            day = (
                now.astimezone(zone).date() - timedelta(_DAYS_BACK[text]) if is_word else date.fromisoformat(text)
            )
            return _first_instant(day, zone)
        if _DATE_TIME.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return int(moment.timestamp()) if moment.tzinfo else _instant(moment, _zone(text, timezone))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no date and time of the calendar", hint=MOMENT_HINT) from None
    raise UsageError(f"{text[:SHOWN_CHARACTERS]!r} is not a moment", hint=MOMENT_HINT)


def _zone(text: str, timezone: str | None) -> tzinfo:
    if timezone is None:
        raise UsageError(f"{text!r} is a local time of an unknown zone", hint="Name the zone with --timezone.")
    return ZoneInfo(timezone)


def _first_instant(day: date, zone: tzinfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    first = midnight.astimezone(UTC)
    before = first - timedelta(seconds=1)
    if first.astimezone(zone).date() != day or before.astimezone(zone).date() >= day:
        raise UsageError(
            f"{day} has no beginning in {zone}: its clock skipped it",
            hint="Give an offset: 2026-03-01T00:00+02:00.",
        )
    return int(first.timestamp())


def _instant(local: datetime, zone: tzinfo) -> int:
    readings = [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    instants = {moment for moment in readings if moment.astimezone(zone).replace(tzinfo=None, fold=0) == local}
    if len(instants) == 1:
        return int(instants.pop().timestamp())
    fault = "occurs twice" if instants else "does not exist"
    raise UsageError(
        f"the local time {local} {fault} in {zone}: its clock was changed then",
        hint="Give it with its offset, like 2026-03-01T14:30+01:00, or take another time.",
    )
