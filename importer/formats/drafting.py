"""A first draft of a format from an export that no format fits: what the file shows, and TODO for the rest.

No column is taken for anything. The draft lists the columns, the distinct words of those that have few, and what
the cause tables say of such words; which column is which, and what a word means, a person answers or writes.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import islice, product
from pathlib import Path
from string import Template

from importer.errors import InputUnusableError
from importer.files.export import certain_encoding, fallback_encoding, open_tables
from importer.formats.catalogue import OPEN_POINT, TomlText
from importer.formats.cells import Dialect, Quotes, numbered_records, plain_cell
from importer.formats.dates import bare_time
from importer.formats.language import CauseTable, word_key
from importer.formats.sample import (
    ONE_COLUMN_TODO,
    RESAVED_DELIMITERS,
    Sample,
    is_total,
    outline_of,
    sample_text,
)
from importer.settings.options import Settings
from schemas.vocabulary import Direction, Verdict, counted

MOST_ROWS = 50_000
MOST_WORDS = 60
LOOKED_AT = 2_000
"""So many different cells of a column show how its cells are written."""
MOST_OF = 0.9
FALLBACK_ENCODINGS = ("utf-8", "cp1252", "latin-1")
MOST_DIGITS = 6
"""A word with more may be a telephone number, which has no place in a draft."""

_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d.%m.%y", "%y.%m.%d", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d"),
    *("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
)
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%I:%M:%S%p", "%I:%M%p")
_ISO = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M")
_DAYS = (*_DATES, "%Y%m%d")
LAYOUTS = (*_CLOCKS, *_DATES, *_ISO[1:], *map("".join, product(_DAYS, (" ", ", "), _CLOCKS)))
"""How a draft knows times; between dots no month stands first."""
FIRST_YEAR = 2015
MOST_YEARS = 10
"""No export has calls from before, or of more years: of two digits that may be a day or a year these are a day."""
_DAY = "20[0-9]{2}(0[1-9]|1[0-2])([0-2][0-9]|3[01])"
_MINUTE = f"{_DAY}([01][0-9]|2[0-3])[0-5][0-9]"
_BY_LOOK = {
    "epoch": r"1[0-9]{9}(\.[0-9]+)?",
    "epoch_ms": "1[0-9]{12}",
    "rfc2822": "([A-Z][a-z]{2}, *)?[0-9]{1,2} +[A-Z][a-z]{2} +[0-9]{4} +[0-9:]{5,8} +([+-][0-9]{4}|[A-Z]{1,3}).*",
    "%Y%m%d": _DAY,
    "%Y%m%d%H%M": _MINUTE,
    "%Y%m%d%H%M%S": f"{_MINUTE}[0-5][0-9]",
    "%Y%m%d%H%M%S.%f": rf"{_MINUTE}[0-5][0-9]\.[0-9]+",
}
"""How it knows words that stand for times, and times of digits: strptime also takes ids and numbers for such."""

_OPEN_DIRECTION = """\
[[direction]]
when = { TODO = "TODO" } # TODO which column says it, and by which word? Write a rule for each word
is = "outgoing"\
"""

_WITH_HEADER = """
# By these columns such a file is recognised, as name = header, compared without case and punctuation;
# a list holds several spellings. Behind each stand its words, or how its cells are written (# a digit,
# x a letter), and the layout of its times. Move what may be missing, or what you do not need, below
# [optional_columns]. Below, a column is named by the name on the left, not by its header.
[columns]"""

_WITHOUT_HEADER = """\
header = false

# No header: the columns by their order. Give them names that say what they are.
# TODO are these the columns, in every file of this system?
[[layouts]]"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the format, its header ("" without one), and its filled cells with their counts.

    ``layouts`` are those by which most cells are times: several where no row proves what comes first.
    """

    name: str
    header: str
    counts: Counter[str]
    layouts: tuple[str, ...]

    def words(self) -> list[tuple[str, int]]:
        """Return the distinct cells with their counts, the commonest first, where they are few and no numbers."""
        counts = self.counts
        are_few = len(counts) <= min(MOST_WORDS, max(12, counts.total() // 20))
        if are_few and all(len(cell) <= 40 and sum(map(str.isdigit, cell)) <= MOST_DIGITS for cell in counts):
            return counts.most_common()
        return []

    def is_mostly(self, look: re.Pattern[str]) -> bool:
        """Return whether most of the cells look like this."""
        return 2 * sum(map(bool, map(look.fullmatch, self.counts))) > len(self.counts)

    def shown(self) -> str:
        """Return the words or the looks of the cells (# a digit, x a letter), and their layout of times."""
        counts, layouts = self.counts, ""
        filled = f"{counts.total()} filled, {len(counts)} different" if counts else "empty in every row"
        if self.layouts:
            unproved = "; no row proves what comes first" if len(self.layouts) > 1 else ""
            layouts = f"; times {' or '.join(map(toml_text, self.layouts))}{unproved}"
        some = islice(counts, LOOKED_AT)
        looks = Counter(re.sub(r"\d", "#", re.sub(r"[^\W\d_]", "x", cell)) for cell in some)
        written = [f"{toml_text(word)} {count}" for word, count in self.words()]
        written = written or [toml_text(look) for look, _ in looks.most_common(3) if len(look) <= 40]
        return f"{filled}{': ' if written else ''}{', '.join(written)}{layouts}"


@dataclass(frozen=True, slots=True)
class Draft:
    """What an export shows of its format; ``seen`` says how it was read.

    Of ``are_objects`` a key that some lack may be missing in all of another day.
    """

    file: str
    seen: str
    delimiters: list[str]
    rows: int
    columns: Mapping[str, Column]
    are_objects: bool

    def starts(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Return the columns that can be the start, one or date and clock, with the layouts of their times."""
        of = {name: column.layouts for name, column in self.columns.items() if column.layouts}
        dates, clocks = ([name for name in of if {*of[name]} & {*some}] for some in (_DAYS, _CLOCKS))
        whole = [(name,) for name in of if name not in (*dates, *clocks)]
        found = ((names, product(*(of[name] for name in names))) for names in (*whole, *product(dates, clocks)))
        return {names: tuple(map(" ".join, layouts)) for names, layouts in found}

    def text(self, name: str, causes: Mapping[str, CauseTable], settled: Mapping[str, str]) -> TomlText:
        """Return the draft, with what a person settled in place of open lines that begin so and of such tables."""
        columns = self.columns.values()
        if any(each.header for each in columns):
            named = [each for each in columns if each.header]
            # Without one that all have, nothing would be left to recognise the file by.
            whole = [each for each in named if each.counts.total() == self.rows or not self.are_objects] or named
            line_of = {each.name: f"{each.name} = {toml_text(each.header)} # {each.shown()}" for each in named}
            shown = [_WITH_HEADER, *(line_of[each.name] for each in whole), "\n[optional_columns]"]
            shown += [line_of[each.name] for each in named if each not in whole]
        else:
            shown = [f"{_WITHOUT_HEADER}\ncolumns = {toml_text([each.name for each in columns])}"]
            shown += [f"# {each.name}: {each.shown()}" for each in columns]
            shown.append("\n# By these a file is recognised: in most rows each cell must match as a whole.")
            shown.append("[detect.patterns]")
            for each in columns:
                # Cells that are written alike but for their digits.
                alike = Counter(re.sub(r"[0-9]+", "0", cell) for cell in islice(each.counts, LOOKED_AT))
                look, count = next(iter(alike.most_common(1)), ("", 0))
                is_filled = each.counts.total() >= MOST_OF * self.rows
                if "0" in look and count >= MOST_OF * alike.total() and is_filled:
                    pattern = re.escape(look).replace("0", r"\d+").replace(r"\ ", " ")
                    shown.append(f"{each.name} = {toml_text(pattern)}")
        text = Template(files("schemas").joinpath("draft.template").read_text("utf-8")).substitute(
            file=toml_text(self.file),
            seen=self.seen,
            name=toml_text(name),
            delimiters=toml_text(self.delimiters),
            encodings=toml_text(FALLBACK_ENCODINGS),
            words_of_direction=", ".join(Direction),
            words_of_outcome=", ".join(Verdict),
            columns="\n".join(shown),
            directions=settled.get("[[direction]]", _OPEN_DIRECTION),
            outcomes=settled.get("[[outcome]]") or "\n\n".join(_outcomes(columns, causes)),
        )
        lines = text.split("\n")
        for place, line in enumerate(lines):
            begins = next((each for each in settled if line.startswith(each) and OPEN_POINT.search(line)), None)
            lines[place] = settled[begins] if begins else line
        return TomlText(name, "\n".join(lines))


def _layouts(whole: list[str]) -> tuple[str, ...]:
    """Return the layouts by which most of some cells are times: several where no row proves what comes first."""
    for layout, look in _BY_LOOK.items():
        if whole and sum(re.fullmatch(look, cell) is not None for cell in whole) >= MOST_OF * len(whole):
            return (layout,)
    cells = list(map(bare_time, whole))
    found: Counter[str] = Counter()
    for layout in LAYOUTS:  # by one after the other: strptime keeps five of them compiled
        years: set[int] = set()
        for place, cell in enumerate(cells):
            if place == 20 and not years:
                break
            with suppress(ValueError):
                years.add(datetime.strptime(cell, layout).year)
                found[layout] += 1
        if "%y" in layout and years and (min(years) < FIRST_YEAR or max(years) - min(years) > MOST_YEARS):
            del found[layout]
    most = max([*found.values(), MOST_OF * len(cells)])
    best = [layout for layout, count in found.items() if count == most]
    # May is written alike in both ways.
    best = [layout for layout in best if "%B" not in layout or layout.replace("%B", "%b") not in best]
    # Only that word stands for fractions and offsets.
    is_iso = best[:1] in ([each] for each in _ISO[cells == whole :])
    return ("iso8601",) if is_iso else (*best,)


def draft_of(path: Path, settings: Settings) -> Draft:
    """Return what an export shows of its format; names of columns are lower case letters, digits and underscores.

    Without ``--sheet`` the first is read. Raises InputUnusableError without columns or rows.
    """
    file = next(open_tables(path, settings.sheet))[0]
    asked = ("utf-8", ",") if file.is_table else (settings.encoding, settings.delimiter)
    encoding = certain_encoding(file, asked[0]) or fallback_encoding(file, FALLBACK_ENCODINGS)
    text, is_cut = sample_text(file, encoding)
    sample = Sample(text, is_cut=is_cut)
    delimiter, width, header_line, header = outline_of(sample, asked[1], has_keys=file.has_objects)
    if not delimiter:
        fault = f"{file.shown} has one column only, whichever of comma, semicolon, tab and | divides it"
        raise InputUnusableError(fault, hint=ONE_COLUMN_TODO)
    rows: list[list[str]] = []  # the records below the header that are as wide as most
    with file.open_text(encoding) as source:
        for line, cells in numbered_records(source, Dialect(delimiter, Quotes.DOUBLED)):
            # An over-long cell ends the reading: what was read so far is enough for a draft.
            if cells is None or len(rows) == MOST_ROWS:
                break
            is_row = len(cells) == width and any(cells) and tuple(cells) != header and not is_total(cells)
            if line > (header_line or 0) and is_row:
                rows.append(list(map(plain_cell, cells)))
    if not rows:
        hint = "Take an export of a day with calls of every kind."
        raise InputUnusableError(f"{file.shown} has no rows to learn from", hint=hint)
    columns: dict[str, Column] = {}
    for place, column in enumerate(zip(*rows, strict=True)):
        title = plain_cell(header[place]) if header else ""
        plain = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", title))
        name = re.sub(r"[^a-z0-9]+", "_", plain.encode("ascii", "ignore").decode().lower()).strip("_")
        name = name if name[:1].isalpha() else f"cell_{place + 1}"
        while name in columns:
            name = f"{name}_{place + 1}"
        counts = Counter(filter(None, column))
        columns[name] = Column(name, title, counts, _layouts([*islice(counts, LOOKED_AT)]))
    about = f"header in line {header_line}" if header_line else "no header"
    if not file.is_table:
        mark = {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, repr(delimiter))
        about = f"{encoding}, delimiter {mark}, {about}"
    elif file.has_objects:
        about = "JSON objects"
    seen = f"{'the first ' if len(rows) == MOST_ROWS else ''}{counted(len(rows), 'row')}, {about}"
    delimiters = [delimiter, *(each for each in RESAVED_DELIMITERS if each != delimiter and header)]
    return Draft(file.shown, seen, delimiters, len(rows), columns, file.has_objects)


def format_name(text: str, taken: Collection[str]) -> str:
    """Return a name for a format that is made from a file's name and not taken yet."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "my-export"
    while name in taken:
        name = f"my-{name}"
    return name


def meanings_in(causes: Mapping[str, CauseTable]) -> dict[str, dict[str, list[str]]]:
    """Return, by key of a word, what it means and which tables say so."""
    meanings: dict[str, dict[str, list[str]]] = {}
    for name, table in causes.items():
        for key, cause in {word_key(word): cause for word, cause in reversed([*table.words.items()])}.items():
            parts = (("rang:", cause.rang), ("talked:", cause.talked))
            more = ", ".join(f"{part} {verdict}" for part, verdict in parts if verdict)
            meaning = f"{cause.otherwise} ({more})" if more else cause.otherwise.value
            meanings.setdefault(key, {}).setdefault(meaning, []).append(name)
    return meanings


def agreed(found: Mapping[str, Sequence[str]]) -> str:
    """Return the meaning of a word if at least two tables have it and all agree, else TODO."""
    meant = [each for each, tables in found.items() if each in {*Verdict} and len(tables) > 1]
    return meant[0] if len(found) == len(meant) == 1 else "TODO"


def _outcomes(columns: Collection[Column], causes: Mapping[str, CauseTable]) -> Iterator[str]:
    """Yield a rule for each column whose cells are mostly words of the cause tables, or one with open points."""
    meanings, is_open = meanings_in(causes), True
    for column in columns:
        # One or two letters are codes of some system or another, and one word for all rows says nothing.
        words = column.words()
        known = sum(count for word, count in words if len(word) > 2 and word_key(word) in meanings)
        if len(words) < 2 or known * 2 < column.counts.total():
            continue
        is_open = False
        shown = toml_text(" ".join(column.header.split()) or column.name)
        lines = [
            f"# TODO does column {shown} say it? Else delete this rule. A cause table may stand in for words: "
            f'table = "name"\n[[outcome]]\ncolumn = {toml_text(column.name)}\n[outcome.words]'
        ]
        for word, count in words:
            found = meanings.get(word_key(word), {})
            known_as = [
                f"{each} in {', '.join(tables[:3])}{', ...' * (len(tables) > 3)}" for each, tables in found.items()
            ]
            why = "; ".join(known_as) or "no cause table knows it"
            lines.append(f"{toml_text(word)} = {toml_text(agreed(found))} # {counted(count, 'row')}; {why}")
        yield "\n".join(lines)
    if is_open:
        yield (
            '# TODO which column says it? Its words stand here, or in a table: table = "name".\n'
            '[[outcome]]\ncolumn = "TODO"\nwords = { TODO = "TODO" }'
        )


def toml_text(value: str | Sequence[str]) -> str:
    """Return a text or a list of texts as TOML has it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML takes no DEL
