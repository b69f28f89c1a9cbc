"""Dates that a spreadsheet program wrote anew in the way of its machine, and the text that they were before.

A file of `2026-03-02 09:14:07` comes back as `02/03/2026 09:14`, `3/2/2026 9:14 AM` or `02.03.2026 09:14:07`.
Whether the day or the month comes first is decided for the whole file by dots (the day), by a row that leaves no
choice, or by the clock in the ids, else by the operator; never row by row. What is found is written back in the
format's own way, so that ids, keys and duplicates are those of the export.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final


class DateOrder(StrEnum):
    """What stands first in the dates of a file."""

    DAY_MONTH = "day-month"
    MONTH_DAY = "month-day"


OFFSET: Final = r"(?:[Zz]|UTC|GMT|[-+]\d\d(?::?\d\d)?)"
"""The offset from GMT that stands behind a time."""

_DATE: Final = re.compile(
    r"(?P<a>\d{1,4})(?P<mark>[-/.]) ?(?P<b>\d{1,2})(?P=mark) ?(?P<c>\d{4}|\d{1,2})(?:(?:,? +|T)(?P<rest>.+))?"
)
_FRACTION: Final = r"(?:[.,]\d{1,9})?"
_NOON: Final = r"(?: ?(?P<p>[AaPp])\.? ?[Mm]\.?)?"
_TIME: Final = re.compile(
    rf"(?P<H>\d{{1,2}})[:.](?P<M>\d{{2}})(?:[:.](?P<S>\d{{2}}){_FRACTION})?{_NOON}(?: ?{OFFSET})?"
)
_END_OF_TIME: Final = re.compile(
    rf'(?P<M>:\d\d)(?P<S>(?::\d\d)?){_FRACTION}(?P<noon>{_NOON})(?P<z>(?: ?{OFFSET})?)(?P<end>"?)$'
)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:(?:[Tt]| +)\d{1,2}:\d\d:\d\d)?")
_ISO_LAYOUT: Final = "%Y-%m-%d %H:%M:%S"
_SECONDS: Final = re.compile(r"[:.]?%S(?:\.%f)?")


@lru_cache(maxsize=1024)
def _shape(layout: str) -> re.Pattern[str]:
    from schemas.time_layouts import shape_of  # loads pyarrow

    return re.compile(shape_of(layout))


def is_own(text: str, layouts: Iterable[str]) -> bool:
    """Return whether a text looks like one of these layouts, fraction and offset aside, or is an ISO time."""
    bare = bare_time(text)
    shapes = (_shape(layout) for layout in layouts)
    return any(shape.fullmatch(text) or shape.fullmatch(bare) for shape in shapes) or bool(_ISO.fullmatch(bare))


def bare_time(text: str) -> str:
    """Return a time without a fraction of its second and without an offset, which may stand before a quote."""
    return _END_OF_TIME.sub(r"\g<M>\g<S>\g<noon>\g<end>", text)


def offset_in(text: str) -> str:
    """Return the offset from GMT that stands behind a time, with the space before it, "" without one."""
    end = _END_OF_TIME.search(text)
    return end["z"] if end else ""


def column_layouts(formats: Sequence[str], columns: int) -> list[tuple[str, ...]]:
    """Return the layouts of each column of a time: a date and a time of day may stand in columns of their own."""
    if columns == 1:
        return [tuple(formats)]
    at = " (?=%[HI])" if columns == 2 else " "
    found = (re.split(at, layout, maxsplit=columns - 1) for layout in formats)
    parts = [part for part in found if len(part) == columns]
    return [tuple(dict.fromkeys(part[place] for part in parts)) for place in range(columns)]


def own_order(formats: Iterable[str]) -> DateOrder | None:
    """Return what stands first in the dates of a format with the year last, None if none has or they differ."""
    found = set()
    for layout in formats:
        day, month, year = (layout.find(word) for word in ("%d", "%m", "%y"))
        year = max(year, layout.find("%Y"))
        if -1 < day < year and -1 < month < year:
            found.add(DateOrder.DAY_MONTH if day < month else DateOrder.MONTH_DAY)
    return found.pop() if len(found) == 1 else None


def without_seconds(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the layouts of times with seconds as a spreadsheet writes them that does not show seconds."""
    return tuple(_SECONDS.sub("", layout) for layout in formats if "%S" in layout)


def year_last(text: str) -> tuple[int, int] | None:
    """Return the first two numbers of a date that ends in its year, None for any other text."""
    match = _DATE.fullmatch(text)
    if match is None or len(match["a"]) > 2 or len(match["c"]) < (4 if match["mark"] == "-" else 2):
        return None
    return int(match["a"]), int(match["b"])


def is_rewritten(text: str, layouts: Iterable[str]) -> bool:
    """Return whether a text is a date that the format would not have written so."""
    return _DATE.fullmatch(text) is not None and not is_own(text, layouts)


def written_back(text: str, layouts: Sequence[str], order: DateOrder, *, fill_seconds: bool = False) -> str:
    """Return a text in the first of ``layouts`` that can hold it, as it stands when none can or none has to.

    Seconds that were lost are left out, or zero with ``fill_seconds``. A fraction is cut, an offset stays.
    """
    has_layout = any(_shape(layout).fullmatch(text) for layout in layouts)
    if has_layout and (year_last(text) is None or own_order(layouts) in (None, order)):
        return text
    found = _fields(text, order)
    if not found:
        return text
    values = {name: f"{value:02}" for name, value in found.items()}
    values["y"] = f"{found.get('Y', 0) % 100:02}"
    values["I"] = f"{(found.get('H', 0) + 11) % 12 + 1:02}"
    values["p"] = "PM" if found.get("H", 0) >= 12 else "AM"
    for layout in layouts:
        plain = _ISO_LAYOUT if layout == "iso8601" else layout
        if "S" not in found:
            plain = plain.replace("%S", "00") if fill_seconds else _SECONDS.sub("", plain)
        wanted = {{"y": "Y", "I": "H", "p": "H"}.get(name, name) for name in re.findall("%(.)", plain)}
        has_date, has_time = not wanted.isdisjoint("Ymd"), "H" in wanted
        if wanted <= found.keys() and has_date == ("d" in found) and has_time == ("H" in found):
            written = re.sub("%(.)", lambda match: values[match[1]], plain)
            return written + (offset_in(text) if has_time else "")
    return text


def _fields(text: str, order: DateOrder) -> dict[str, int]:
    """Return year, month, day, hour, minute and second as far as a text has them; nothing when it is no time."""
    date = _DATE.fullmatch(text)
    time = text if date is None else date["rest"]
    found: dict[str, int] = {}
    if time:
        clock = _TIME.fullmatch(time)
        if clock is None:
            return {}
        found = {name: int(clock[name]) for name in "HMS" if clock[name]}
        if clock["p"]:
            if not 1 <= found["H"] <= 12:
                return {}
            found["H"] = found["H"] % 12 + (12 if clock["p"] in "Pp" else 0)
    if date is None:
        return found
    first, year = year_last(date[0]), int(date["c"])
    if first is not None:
        day, month = first if order is DateOrder.DAY_MONTH else first[::-1]
        if len(date["c"]) == 2:
            year += 1900 if year >= 69 else 2000  # POSIX: 69 to 99 are 1969 to 1999
    elif len(date["a"]) == 4 and len(date["c"]) <= 2:
        year, month, day = int(date["a"]), int(date["b"]), year
    else:
        return {}
    is_day = 1 <= month <= 12 and 1 <= day <= 31
    return found | {"Y": year, "m": month, "d": day} if is_day else {}


@dataclass(slots=True)
class OrderEvidence:
    """Evidence of the order of day and month in a file: by order, (line, text) of a row that allows no other.

    ``open`` is the first date that has its year last, None where there is none: then the order does not matter.
    ``dotted`` is the first with dots: in every region that writes those the day stands first (Unicode CLDR).
    ``made`` are the first dates, by order, near which the row's id was made, with its epoch second.
    """

    proofs: dict[DateOrder, tuple[int, str]] = field(default_factory=dict)
    open: tuple[int, str] | None = None
    dotted: tuple[int, str] | None = None
    made: dict[DateOrder, tuple[int, str, int]] = field(default_factory=dict)

    def add(self, line: int, text: str, epoch: int | None = None) -> None:
        """Take one cell into account, and the second at which the row's id was made."""
        first = year_last(text)
        if first is None:
            return
        self.open = self.open or (line, text)
        if "." in text[:3]:
            self.dotted = self.dotted or (line, text)
        if 1 <= min(first) <= 12 < max(first) <= 31:
            self.proofs.setdefault(DateOrder.DAY_MONTH if first[0] > 12 else DateOrder.MONTH_DAY, (line, text))
        elif epoch is not None and first[0] != first[1]:
            for order in DateOrder:
                # The day of the second on some clock, or the one beside it: the other order is weeks away.
                found = _fields(text, order)
                with suppress(KeyError, ValueError, OverflowError):
                    day = date(found["Y"], found["m"], found["d"])
                    if abs(day - datetime.fromtimestamp(epoch, UTC).date()).days <= 1:
                        self.made.setdefault(order, (line, text, epoch))
