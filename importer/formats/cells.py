"""A cell as it was meant: without what spreadsheets, chats and address books leave around a value.

`importer.reading.columns` does the same on whole columns; a test compares the two.
"""

import csv
import re
import unicodedata
from _csv import Reader
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas import data


class Quotes(StrEnum):
    """How the export quotes: inner quotes doubled (RFC 4180), left bare inside quoted cells, or no quoting.

    ``backslash``: a backslash takes its meaning from the next letter, as MySQL's INTO OUTFILE and Python write it.
    """

    DOUBLED = "doubled"
    BACKSLASH = "backslash"
    BARE = "bare"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a line is divided into cells: one-byte delimiter, quoting, and whether spaces may stand before a quote.

    ``spans`` are the columns of printed text by first and last position, from 1.
    """

    delimiter: str
    quotes: Quotes
    skip_initial_space: bool = False
    spans: tuple[tuple[int, int], ...] = ()


INVISIBLE: Final = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Direction marks (Unicode Bidi_Control), soft hyphen, zero width space, word joiner, byte order mark.

The joiners U+200C and U+200D stay: names in Persian or Hindi are spelt with them.
"""

NO_BREAK_SPACES: Final = re.compile("[\u00a0\u2007\u202f]")

FORCED: Final = re.compile(r'(?s)="([^"]*)"')
"""What makes a spreadsheet take digits for text; RFC 4180 doubles the quotes around it."""

APOSTROPHE: Final = re.compile(r"(?s)'([-+=@(0-9].*)")
"""The other way, which our own results use too; a name may begin with an apostrophe, but a letter follows then."""

NULL: Final = "\\N"
"""What MySQL (INTO OUTFILE) and PostgreSQL (COPY) write for NULL."""

NULLS: Final = frozenset(
    {NULL, "NULL", "null", "(NULL)", "(null)", "[NULL]", "<null>", "NaN", "nan", "NaT", "<NA>", "None"}
    | {"-", "--", "\u2013", "\u2014"}
)
"""What programs write for an empty cell: database clients (mysql, HeidiSQL, DBeaver, DataGrip), pandas and Python.

Dashes are of 8x8 and Zoom, of reports, and of Excel's accounting formats, which show 0 so.

Letter case counts, and `NA` and `N/A` are no such words: some systems write them and mean something.
"""

NO_ID: Final = (
    r"[-\x{2010}-\x{2015}\x{2212}]+|N/?A|n/?a|Null|none|nil|NIL|undefined|[Ff]alse|FALSE|[Uu]nknown|"
    r"\(blank\)|\[\]|\{\}|#(?:N/A|REF!|VALUE!|NAME\?|NULL!)"
)
"""What R, Ruby, PHP, JavaScript, Excel and pandas write in place of an id. Calls would share it."""

NO_LONE_ID: Final = rf"{NO_ID}|(?:[-0]+|-1)(?:\.0+)?"
"""The same for an id of one column. Zeros may be a part of an id of several columns."""

NO_TIME: Final = (
    rf"[^0-9#\p{{L}}]*|{NO_ID}|(?i:no|never|missed|unanswered|not?[ _-]answer(?:ed)?)|"
    r"0+(?:\.0+)?|-1|(?:000[01]|1899|19[07]0|1969)-.*|"
    r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:1899|19[07]0|1969)\b.*|(?:0?1/0?0/|0?0\.0?1\.).*|"
    r".*\b(?:[A-Z][a-z]{2} [0-9]{1,2},?|[0-9]{1,2} [A-Z][a-z]{2}) (?:1970|1969)\b.*"
)
"""What stands in place of a time that never was: `-`, `NA`, `0`, `-1`, and how programs write a date of zero.

MySQL: 0000-00-00; .NET: 0001-01-01; OLE: 1899-12-30; SQL Server, of an empty text: 1900-01-01; Excel: `1/0/1900`,
`00.01.1900`; of epoch 0: 1970-01-01, `Jan 1 1970`, or the evening before. Midnight is a time, and `###` may be.
"""

NO_DATE_TIME: Final = NO_TIME + r"|0?0:00:00(?:\.0+)?|12:00:00 [Aa][Mm]"
"""The same for a cell of date and time, in which workbooks and Visual Basic write midnight for 0."""

POINTED: Final = r"^(-?[0-9]{1,15})[.,]0{1,2}$"
"""How pandas and Excel write 486 in a column of numbers: 486.0, 486,00."""


def cut_line(line: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return a line of printed text as cells between tabs; ``spans`` are first and last positions, from 1.

    What stands between or behind the columns is a further cell: such a line is laid out in another way, and cut at
    these positions its cells would be wrong.
    """
    line = line.replace("\f", "").replace("\t", " ").rstrip()
    if not line:
        return ""
    outside, end = [], 0
    for first, last in spans:
        outside.append(line[end : first - 1])
        end = last
    surplus = " ".join("".join((*outside, line[end:])).split())
    cells = [line[first - 1 : last].strip() for first, last in spans]
    return "\t".join([*cells, surplus] if surplus else cells)


def plain_cell(text: str) -> str:
    """Return the value of a cell: trimmed, without invisible marks, forced text unwrapped, empty for NULL."""
    if not text.isascii():
        text = NO_BREAK_SPACES.sub(" ", INVISIBLE.sub("", text))
    text = text.strip()
    for pattern in (FORCED, APOSTROPHE):
        if match := pattern.fullmatch(text):
            text = match[1].strip()
    return "" if text in NULLS else text


def without_point(text: str) -> str:
    """Return a whole number without the decimal point that a program gave it; any other text as it is."""
    return re.sub(POINTED, r"\1", text)


def caseless(text: str) -> str:
    """Return a text in the form in which texts are compared, whatever their letter case and Unicode form.

    Unicode's compatibility caseless match (The Unicode Standard 15, section 3.13, D146): composed and decomposed
    letters are equal, full-width and ordinary ones, no-break spaces and spaces, `ß` and `ss`, and so are one space
    and several or a line break. The canonical match would keep texts apart that an input method or a spreadsheet
    has changed without a visible difference.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold())
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.lower().split())


TRUTH: Final = {word: frozenset(map(caseless, words.split())) for word, words in data("words")["truth"].items()}


GROUPED: Final = re.compile(
    r"[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+(?:\.[0-9]+)?|(?:\.[0-9]{3}){2,}(?:,[0-9]+)?|(?:[ '\u2019][0-9]{3}){2,})"
)
"""A number as Excel, Kibana and Power BI show it: 1,772,446,847.42."""


def are_grouped(texts: Iterable[str]) -> bool:
    """Return whether a program took the ids of a column for numbers and parted their thousands."""
    filled = {*texts}
    return any(map(GROUPED.fullmatch, filled)) and not any(re.fullmatch("[0-9]{4,}", text) for text in filled)


def ungrouped(text: str) -> str:
    """Return the digits of an id without what parts their thousands."""
    return text.replace(text.lstrip("0123456789")[0], "") if GROUPED.fullmatch(text) else text


def null_cells(delimiter: str) -> str:
    """Return a regular expression of NULL as a whole cell of a line; it is no escaped letter N."""
    return rf"(?<![^{re.escape(delimiter)}\n\r])\\N(?=[{re.escape(delimiter)}\r\n]|\Z)"


def cell_reader(source: Iterable[str], dialect: Dialect) -> Reader:
    """Return a `csv.reader` of lines (with their line ends); those of printed text are cut before (`cut_line`).

    It splits as `importer.reading` does, but for bare quotes, whose cells it only approximates.
    """
    escape = None
    if dialect.quotes is Quotes.BACKSLASH:
        escape, null = "\\", re.compile(null_cells(dialect.delimiter))
        source = (null.sub("  ", line) if NULL in line else line for line in source)
    return csv.reader(
        source,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_NONE if dialect.quotes is Quotes.NONE else csv.QUOTE_MINIMAL,
        escapechar=escape,
        skipinitialspace=dialect.skip_initial_space,
    )


def numbered_records(
    source: Iterable[str], dialect: Dialect, first_line: int = 1
) -> Iterator[tuple[int, list[str] | None]]:
    """Yield line and cells of each record of a text, None in place of the cells where one is over-long."""
    lines = (cut_line(line, dialect.spans) for line in source) if dialect.spans else source
    reader, line = cell_reader(lines, dialect), first_line
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            cells = None
        yield line, cells
        line = first_line + reader.line_num
