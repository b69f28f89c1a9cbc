"""Dates that a spreadsheet program wrote anew in the way of its machine, and the text that they were before.

A file of `2026-03-02 09:14:07` comes back as `02/03/2026 09:14`, `3/2/2026 9:14 AM` or `02.03.2026 09:14:07`.
Whether the day or the month comes first is decided for the whole file by a row that leaves no choice, or asked
for; never row by row. What is found is written back in the format's own way, so that ids, keys and duplicates are
those of the export.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final


class DateOrder(StrEnum):
    """What stands first in the dates of a file."""

    DAY_MONTH = "day-month"
    MONTH_DAY = "month-day"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """How the times of a file are written back: their order, and the layouts of each column that holds one."""

    order: DateOrder
    layouts: Mapping[str, tuple[str, ...]]

    def written_back(self, column: str, text: str) -> str:
        """Return a cell of a column in the first of its layouts that can hold it, as it stands when none can."""
        return written_back(text, self.layouts[column], self.order)


_DATE: Final = re.compile(
    r"(?P<a>\d{1,4})(?P<mark>[-/.]) ?(?P<b>\d{1,2})(?P=mark) ?(?P<c>\d{4}|\d{1,2})(?:(?:,? +|T)(?P<rest>.+))?"
)
_TIME: Final = re.compile(r"(?P<H>\d{1,2})[:.](?P<M>\d{2})(?:[:.](?P<S>\d{2}))?(?: ?(?P<p>[AaPp])\.? ?[Mm]\.?)?")
_SHAPES: Final[Mapping[str, str]] = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "f": r"\d+",
    "p": r"[AaPp]\.? ?[Mm]\.?",
    "z": r"(?:[Zz]|UTC|GMT|[-+]\d\d:?\d\d)",
    "Z": r"[A-Za-z]+",
    **dict.fromkeys("mdHIMS", r"\d{1,2}"),
    **dict.fromkeys("aAbB", r"[A-Za-z]+"),
}
_SPECIAL_SHAPES: Final[Mapping[str, str]] = {
    "iso8601": r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*",
    "rfc2822": r".*\d{1,2} [A-Za-z]{3} \d{4} .*",
    "epoch": r"\d+(?:\.\d+)?",
    "epoch_ms": r"\d+(?:\.\d+)?",
}
_ISO_LAYOUT: Final = "%Y-%m-%d %H:%M:%S"
_SECONDS: Final = re.compile(r"[:.]?%S(?:\.%f)?")
_DATE_FIELDS: Final = frozenset("Ymd")


@lru_cache(maxsize=1024)
def _shape(layout: str) -> re.Pattern[str]:
    pieces = re.findall(r"%.|[^%]", layout)
    shape = _SPECIAL_SHAPES.get(layout) or "".join(
        _SHAPES.get(piece[1], re.escape(piece))
        if piece[0] == "%"
        else (" +" if piece == " " else re.escape(piece))
        for piece in pieces
    )
    return re.compile(shape)


def is_own(text: str, layouts: Iterable[str]) -> bool:
    """Say whether a text looks like one of these layouts."""
    return any(_shape(layout).fullmatch(text) for layout in layouts)


def column_layouts(formats: Sequence[str], columns: int) -> list[tuple[str, ...]]:
    """Return the layouts of each column of a time: a date and a time of day may stand in columns of their own."""
    if columns == 1:
        return [tuple(formats)]
    parts = [layout.split(" ", columns - 1) for layout in formats if layout.count(" ") >= columns - 1]
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
    """Return the layouts that have seconds as they are where a spreadsheet did not show them."""
    return tuple(_SECONDS.sub("", layout) for layout in formats if "%S" in layout)


def year_last(text: str) -> tuple[int, int] | None:
    """Return the first two numbers of a date that ends in its year, None for any other text."""
    match = _DATE.fullmatch(text)
    if (
        match is None
        or len(match["a"]) > 2
        or len(match["c"]) == 1
        or (match["mark"] == "-" and len(match["c"]) == 2)
    ):
        return None
    return int(match["a"]), int(match["b"])


def is_rewritten(text: str, layouts: Iterable[str]) -> bool:
    """Say whether a text is a date that the format would not have written so."""
    return _DATE.fullmatch(text) is not None and not is_own(text, layouts)


def written_back(text: str, layouts: Sequence[str], order: DateOrder, *, fill_seconds: bool = False) -> str:
    """Return a text in the first of ``layouts`` that can hold it, as it stands when none can or none has to.

    Seconds that were lost are left out, or zero with ``fill_seconds``.
    """
    if is_own(text, layouts) and (year_last(text) is None or own_order(layouts) in (None, order)):
        return text
    found = _fields(text, order)
    if not found:
        return text
    for layout in layouts:
        plain = _ISO_LAYOUT if layout == "iso8601" else layout
        if "S" not in found:
            plain = plain.replace("%S", "00") if fill_seconds else _SECONDS.sub("", plain)
        written = _filled(plain, found)
        if written is not None:
            return written
    return text


def _fields(text: str, order: DateOrder) -> dict[str, int]:
    """Return year, month, day, hour, minute and second as far as a text has them; nothing when it is no time."""
    date = _DATE.fullmatch(text)
    time = text if date is None else date["rest"]
    found: dict[str, int] = {}
    if time:
        clock = _clock(time)
        if not clock:
            return {}
        found |= clock
    day = {} if date is None else _day(date, order)
    return {} if date is not None and not day else found | day


def _clock(text: str) -> dict[str, int]:
    match = _TIME.fullmatch(text)
    if match is None:
        return {}
    found = {name: int(match[name]) for name in "HMS" if match[name]}
    if match["p"]:
        if not 1 <= found["H"] <= 12:
            return {}
        found["H"] = found["H"] % 12 + (12 if match["p"] in "Pp" else 0)
    return found


def _day(date: re.Match[str], order: DateOrder) -> dict[str, int]:
    """Return year, month and day; nothing of a date whose parts cannot be told apart."""
    first, year = year_last(date[0]), int(date["c"])
    if first is not None:
        day, month = first if order is DateOrder.DAY_MONTH else first[::-1]
        if len(date["c"]) == 2:
            year += 1900 if year >= 69 else 2000  # POSIX: 69 to 99 are 1969 to 1999
    elif len(date["a"]) == 4 and len(date["c"]) <= 2:
        year, month, day = int(date["a"]), int(date["b"]), year
    else:
        return {}
    return {"Y": year, "m": month, "d": day} if 1 <= month <= 12 and 1 <= day <= 31 else {}


def _filled(layout: str, found: Mapping[str, int]) -> str | None:
    """Return a layout filled in, None where it wants more or less than there is."""
    names = set(re.findall("%(.)", layout))
    wanted = {{"y": "Y", "I": "H", "p": "H"}.get(name, name) for name in names}
    has_date, has_time = bool(wanted & _DATE_FIELDS), "H" in wanted
    if not wanted <= found.keys() or has_date != ("d" in found) or has_time != ("H" in found):
        return None
    values = {
        **{name: f"{value:02}" for name, value in found.items()},
        "y": f"{found.get('Y', 0) % 100:02}",
        "I": f"{(found.get('H', 0) + 11) % 12 + 1:02}",
        "p": "PM" if found.get("H", 0) >= 12 else "AM",
    }
    return re.sub("%(.)", lambda match: values[match[1]], layout)


@dataclass(slots=True)
class OrderEvidence:
    """What the dates of a file say about their order: (line, text) of a row that leaves no choice, by order.

    ``open`` is the first date that has its year last, None where there is none: then the order does not matter.
    """

    proofs: dict[DateOrder, tuple[int, str]] = field(default_factory=dict)
    open: tuple[int, str] | None = None

    def look(self, line: int, text: str) -> None:
        """Take one cell into account."""
        first = year_last(text)
        if self.open is None and first is not None:
            self.open = line, text
        if first is None or not (1 <= min(first) <= 12 < max(first) <= 31):
            return
        self.proofs.setdefault(DateOrder.DAY_MONTH if first[0] > 12 else DateOrder.MONTH_DAY, (line, text))

    def contradicts(self, order: DateOrder | None) -> bool:
        """Say whether a row cannot have this order."""
        return order is not None and any(proved is not order for proved in self.proofs)


def restorations(text: str, layouts: Iterable[str]) -> Iterator[str]:
    """Yield what a text may have been before a spreadsheet wrote it anew, in either order."""
    for layout in layouts:
        for order in DateOrder:
            yield written_back(text, (layout,), order, fill_seconds=True)
