"""What an unknown export looks like: delimiter, header line, and of each column its kind and its words."""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

import pandas as pd

from importer.errors import InputUnusableError
from importer.files import open_tables
from importer.formats.detection import column_key, outline
from importer.formats.encoding import certain_encoding, fallback_encoding
from schemas.times import TimeRules, read_times

MOST_ROWS = 50_000
"""So many rows are counted; of each column the first `LOOKED_AT` filled cells tell its kind."""
LOOKED_AT = 2_000
MOST_WORDS = 60
FALLBACK_ENCODINGS = ("utf-8", "cp1252", "latin-1")
FEWEST_SHARE = 0.9
"""So many of the filled cells must be of a kind; the rest are the export's bad rows."""

_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%d %b %Y")
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_TIME_FORMATS = ("iso8601", "rfc2822", *(f"{date} {clock}" for date in _DATES for clock in _CLOCKS))

_PATTERNS = {
    "url": re.compile(r"https?://\S+"),
    "duration": re.compile(r"\d{1,3}:\d\d(:\d\d)?(\.\d+)?|(\d+h ?)?(\d+m(in)? ?)?\d+s"),
    # Not the id of an Asterisk call, which is an epoch and a count.
    "telephone": re.compile(r"(?!\d{9,10}\.\d+$)(tel:|sip:)?\+?[\d ().\-/]{7,24}"),
    "clock": re.compile(r".*\d:\d\d.*"),
    "date": re.compile(r"\d{8}|\d{1,4}[-/. ]\w{1,3}[-/. ]\d{2,4}"),
    "epoch": re.compile(r"\d{9,13}(\.\d+)?"),
    "word": re.compile(r"(\D*\d){0,6}\D*"),
    "whole": re.compile(r"\d{1,6}"),
    "id": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{5,}"),
}


class Kind(StrEnum):
    """What the cells of a column look like."""

    EMPTY = "empty"
    TIME = "times"
    DATE = "dates"
    URL = "URLs"
    DURATION = "durations"
    TELEPHONE = "telephone numbers"
    WHOLE = "whole numbers"
    ID = "ids"
    WORD = "a few words"
    TEXT = "texts"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in the format, its header ("" without one), and what its cells look like.

    ``words`` holds the distinct cells with their counts, the commonest first, where they are few.
    ``time_formats`` are those that read the cells: of dates the part with the date, of durations that of a clock.
    ``is_absolute``: the times carry their offset from GMT. ``pattern`` is a regular expression of how the cells
    are written, "" where nothing useful can be said; ``shapes`` counts telephone numbers by their digits.
    """

    name: str
    header: str
    kind: Kind
    filled: int
    distinct: int
    words: tuple[tuple[str, int], ...] = ()
    time_formats: tuple[str, ...] = ()
    is_absolute: bool = False
    pattern: str = ""
    shapes: tuple[tuple[str, int], ...] = ()

    @property
    def shown(self) -> str:
        """The column as a person finds it in the file, on one line."""
        return "".join(filter(str.isprintable, " ".join(self.header.split()))) or self.name


@dataclass(frozen=True, slots=True)
class Export:
    """An export as far as it can be seen without knowing its system; ``rows`` is how many were counted."""

    name: str
    encoding: str
    delimiter: str
    header_line: int | None
    columns: tuple[Column, ...]
    rows: int


def read_export(
    path: Path, encoding: str | None = None, delimiter: str | None = None, sheet: str | None = None
) -> Export:
    """Look through an export; raises InputUnusableError where it has no columns or no rows.

    Without ``sheet`` the first sheet of a workbook is looked through that has anything in it.
    """
    tables = open_tables(path, sheet)
    file = next((each for each in tables if each.is_table and each.open().read(1 << 16).strip(b",\n")), tables[0])
    if file.is_table:
        encoding, delimiter = "utf-8", ","
    found = certain_encoding(file, encoding) or fallback_encoding(file, FALLBACK_ENCODINGS)
    seen = outline(file, found, delimiter)
    if not seen.delimiter:
        raise InputUnusableError(
            f"{file.shown} has one column only, whichever of comma, semicolon, tab and | divides it",
            hint="Name the character with --delimiter; a file of fixed columns cannot be read.",
        )
    with file.open_text(found) as source:
        below = (cells for line, cells in _records(source, seen.delimiter) if line > (seen.header_line or 0))
        rows = list(islice((cells for cells in below if len(cells) == seen.width), MOST_ROWS))
    if not rows:
        raise InputUnusableError(
            f"{file.shown} has no rows to learn from", hint="Take an export of a day with calls of every kind."
        )
    columns = tuple(
        _column(name, text, cells)
        for (name, text), cells in zip(_named(seen.header, seen.width), zip(*rows, strict=True), strict=True)
    )
    return Export(file.shown, found, seen.delimiter, seen.header_line, columns, len(rows))


def _records(source: Iterable[str], delimiter: str) -> Iterable[tuple[int, tuple[str, ...]]]:
    """Yield line and cells of each record that is not blank."""
    reader = csv.reader(source, delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, tuple(cell.strip().lstrip("\ufeff") for cell in cells)
            line = reader.line_num + 1
    except csv.Error:
        return  # an over-long cell: what was read so far is enough for a draft


def _named(header: Sequence[str], width: int) -> list[tuple[str, str]]:
    """Return the name and the header of each column; names are lower case letters, digits and underscores."""
    named: dict[str, str] = {}
    for place in range(width):
        text = header[place].strip().lstrip("\ufeff") if header else ""
        plain = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text))
        name = re.sub(r"[^a-z0-9]+", "_", plain.encode("ascii", "ignore").decode().lower()).strip("_")
        name = name if name[:1].isalpha() else f"cell_{place + 1}"
        named[name if name not in named else f"{name}_{place + 1}"] = text
    return list(named.items())


def _column(name: str, header: str, cells: Sequence[str]) -> Column:
    filled = [cell for cell in cells if cell]
    counts = Counter(filled)
    looked_at = filled[:LOOKED_AT]
    kind, formats = _kind(looked_at, counts, header)
    few = len(counts) <= MOST_WORDS and kind in (Kind.WORD, Kind.WHOLE)
    return Column(
        name,
        header,
        kind,
        len(filled),
        len(counts),
        words=tuple(counts.most_common()) if few else (),
        time_formats=formats,
        is_absolute=kind is Kind.TIME and bool(_readable(looked_at, formats[:1], None)),
        pattern=_pattern(looked_at, kind, counts) if len(filled) >= FEWEST_SHARE * len(cells) else "",
        shapes=tuple(Counter(map(_shape, looked_at)).most_common(4)) if kind is Kind.TELEPHONE else (),
    )


def _kind(cells: Sequence[str], counts: Counter[str], header: str) -> tuple[Kind, tuple[str, ...]]:
    """Return what the cells look like, and the time formats that read them."""
    if not cells:
        return Kind.EMPTY, ()
    if formats := _readable(cells, _tried(cells, header)):
        return Kind.TIME, formats
    if _share(cells, "date") >= FEWEST_SHARE:
        formats = _readable([f"{cell} 00:00" for cell in cells], [f"{each} %H:%M" for each in _DATES])
        if formats:
            return Kind.DATE, tuple(each.removesuffix(" %H:%M") for each in formats)
    if _share(cells, "duration") >= FEWEST_SHARE or _clocks(cells):
        return Kind.DURATION, _clocks(cells)
    for pattern, kind in (("url", Kind.URL), ("whole", Kind.WHOLE)):
        if _share(cells, pattern) >= FEWEST_SHARE:
            return kind, ()
    return _kind_of_text(cells, counts), ()


def _kind_of_text(cells: Sequence[str], counts: Counter[str]) -> Kind:
    numbers, whole = _share(cells, "telephone"), _share(cells, "whole")
    if numbers >= 0.5 and numbers + whole >= FEWEST_SHARE - 0.1:
        return Kind.TELEPHONE
    total = counts.total()
    if len(counts) == total > 1 and _share(cells, "id") >= FEWEST_SHARE:
        return Kind.ID
    # A word with seven digits may hold a telephone number, which has no place in a draft.
    are_words = max(map(len, counts)) <= 40 and all(map(_PATTERNS["word"].fullmatch, counts))
    if are_words and len(counts) <= max(12, total // 20):
        return Kind.WORD
    return Kind.ID if _share(cells, "id") >= FEWEST_SHARE else Kind.TEXT


def _share(cells: Sequence[str], pattern: str) -> float:
    return sum(_PATTERNS[pattern].fullmatch(cell) is not None for cell in cells) / len(cells)


def _tried(cells: Sequence[str], header: str) -> tuple[str, ...]:
    """Return the time formats to try: epochs only where the header speaks of time, since a number may look so."""
    if _share(cells, "clock") >= FEWEST_SHARE:
        return _TIME_FORMATS
    says_time = re.search(r"time|date|start|begin|stamp|epoch|answer", column_key(header)) is not None
    return ("epoch_ms", "epoch") if says_time and _share(cells, "epoch") >= FEWEST_SHARE else ()


def _clocks(cells: Sequence[str]) -> tuple[str, ...]:
    if _share(cells, "clock") < FEWEST_SHARE:
        return ()
    formats = _readable([f"2000-01-01 {cell}" for cell in cells], [f"%Y-%m-%d {clock}" for clock in _CLOCKS])
    return tuple(each.removeprefix("%Y-%m-%d ") for each in formats)


def _readable(cells: Sequence[str], formats: Iterable[str], zone: str | None = "UTC") -> tuple[str, ...]:
    """Return the formats that read nearly all of the first cells as times of this zone."""
    texts = pd.Series(cells[:100], dtype="str")
    found = []
    for each in formats:
        read = read_times(texts, TimeRules((each,), zone))
        # In every layout ISO times are read too: they name no other.
        is_fine = (read["reason"] == "") & (read["is_own"] | (each == "iso8601"))
        if is_fine.mean() >= FEWEST_SHARE:
            found.append(each)
    return tuple(found)


def _pattern(cells: Sequence[str], kind: Kind, counts: Counter[str]) -> str:
    """Return a regular expression that nearly all cells match, "" where it would match anything."""
    if kind is Kind.WORD:
        return "|".join(re.escape(word).replace(r"\ ", " ") for word, _ in counts.most_common(MOST_WORDS))
    if kind is Kind.WHOLE:
        return r"\d+"
    if kind in (Kind.TIME, Kind.DATE, Kind.DURATION):
        masked = re.sub(r"\d+", lambda digits: rf"\d{{{len(digits[0])}}}", re.escape(cells[0]).replace(r"\ ", " "))
        if sum(re.fullmatch(masked, cell) is not None for cell in cells) >= FEWEST_SHARE * len(cells):
            return masked
    return ""


def _shape(cell: str) -> str:
    digits = len(re.sub(r"\D", "", cell))
    return f"+ and {digits} digits" if "+" in cell else f"{digits} digits"
