r"""The beginning of a file, split into records in each way in which it may be written down.

Totals and what database clients print are no rows of any export, though they stand among them. Sources: psql's
PrintQuery and `\timing`, the mysql and MariaDB clients (`-t`, `tee`), MySQL Workbench, sqlcmd and SQL*Plus, whose
counts of rows are in the language of the machine; `sep=` is Excel's.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from importer.files.export import ExportFile
from importer.formats.cells import Dialect, Quotes, caseless, numbered_records, plain_cell
from importer.formats.language import FileSpec

SAMPLE_CHARACTERS = 256 * 1024
HEADER_RECORDS = 20
SAMPLE_ROWS = 200

RESAVED_DELIMITERS = (",", ";", "\t", "|")
"""What spreadsheets write, by the machine's region and the kind of file chosen, whatever the system wrote."""

SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=([^0-9A-Za-z"\r\n])"?[,;\t| ]*(?:\r\n?|\n|\Z)', re.IGNORECASE)
"""The first line that names the delimiter to Excel; not a row, and no part of any export's layout."""

TOTALS: Final = re.compile(
    r"(?:grand[ -]?|sub[ -]?)?totals?(?: calls| général| general| geral)?|(?:gesamt)?summe|(?:ins)?gesamt|"
    r"som(?:me|a)|suma|totale|totaal|totalt|sum",
    re.IGNORECASE,
)
TOTALS_BEGIN: Final = ("to", "gr", "su", "ge", "in", "so")

ANOTHER_ALPHABET: Final = re.compile(r"[^\W\d_\u0000-\u036f\u1e00-\u1eff]")
"""A letter that is not Latin: `ID записи` and `ID заказа` are two columns."""

MOST_CELLS = 3
"""So many cells at most a line of words has, which commas in it divide: `Query OK, 2 rows affected, 1 warning`."""

_RULE: Final = re.compile(r"[-=+|\s]*(?:--|==|\+-|-\+)[-=+|\s]*")
"""Dashes under a header, and the frame of a printed table."""

_PRINTED: Final = re.compile(
    r"""
    \(\s*\d[\d.,\s]*[^\W\d_][^\d]*\)                                   # (2 rows), (2 rows affected), (2 Zeilen)
    | \d+\s(?:rows?|row\(s\)|records?)\s(?:in\sset|returned|selected|affected|fetched)\b.*
    | \d+\s(?:Zeilen?|lignes?|filas?|rig(?:a|he)|linhas?|rijen|rij)\s[^\d]{3,40}
    | (?:Empty\sset|Query\sOK|no\srows\sselected|Rows\smatched:|Records:\s\d).*
    | (?:Time|Zeit|Temps|Durée|Duración|Tempo|Tiempo)\s?:\s\d+[.,]\d+\sms\b.*
    | Completion\stime:.*
    | (?:(?:mysql|MariaDB\s\[[^]]*\])> | \w+[=-][#>])(?:\s.*)? | Bye
    | sep=[^0-9A-Za-z"]
    """,
    re.IGNORECASE | re.VERBOSE,
)

_LIKE_A_VALUE = r"(?<![A-Za-z_])\d{3}|://|\d:\d|\A[\d.,+-]+\Z"
"""In a name digits may stand behind letters: `to_e164`."""

ONE_COLUMN_TODO: Final = (
    "Name the character that divides its cells with --delimiter. Text in fixed columns is described by hand: see "
    "`columns` of `[file]` in schemas/formats/README.md."
)

Records = list[tuple[int, tuple[str, ...]]]


@dataclass
class Sample:
    """The first records of a file, split once for each way of writing them down.

    ``separator`` is the delimiter that a first line `sep=;` names, or "". ``is_cut``: the file ends with this
    text, and without a line end; ``shown`` is its name in messages. Of the cells of a record the last ``left_out``
    are not looked at, of those of the first one with ``of_table`` what stands before a dot in all of them.
    ``header_keys`` are those of all cells of the first `records`, one of which may be a header.
    """

    text: str
    first_line: int = 1
    left_out: int = 0
    of_table: bool = False
    is_cut: bool = False
    shown: str = ""
    separator: str = ""
    header_keys: dict[Dialect, frozenset[str]] = field(default_factory=dict)
    _split: dict[Dialect, Records] = field(default_factory=dict)
    _quotings: dict[str, tuple[bool, bool, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.text = re.sub("(?<=[\r\n])\ufeff", "", self.text)  # of a file that was put behind another
        if first := SEPARATOR_LINE.match(self.text):
            self.separator, self.text = first[1], self.text[first.end() :]

    def records(self, dialect: Dialect) -> Records:
        """Return (line, cells) of the first records, without blank ones and what a database client prints."""
        if dialect in self._split:
            return self._split[dialect]
        records = self._split[dialect] = []
        first_line = self.first_line + bool(self.separator)
        for line, cells in numbered_records(io.StringIO(self.text, newline=""), dialect, first_line):
            # An over-long cell ends the sample; reading names its line.
            if cells is None or len(records) >= HEADER_RECORDS + SAMPLE_ROWS:
                break
            if any(cells) and not is_printed(cells, dialect.delimiter):
                found = tuple(cells[: len(cells) - self.left_out])
                records.append((line, found if records or not self.of_table else _without_table(found)))
        first = chain.from_iterable(cells for _, cells in records[:HEADER_RECORDS])
        self.header_keys[dialect] = frozenset(map(column_key, first))
        return records

    def rows(self, dialect: Dialect, start: int, field_count: int, spill: int | None) -> list[tuple[str, ...]]:
        """Return the cells of the first rows, which stand from record ``start`` on.

        Lines of totals are none, and neither is a last record that the end of the file cuts off.
        """
        records = self.records(dialect)
        rows = [spilled(cells, field_count, spill) for _, cells in records[start:] if not is_total(cells)]
        is_whole_file = len(records) < HEADER_RECORDS + SAMPLE_ROWS
        if self.is_cut and is_whole_file and len(rows[-1] if rows else ()) < field_count:
            del rows[-1:]
        return rows[:SAMPLE_ROWS]

    def dialects(self, file: FileSpec, delimiter: str) -> Iterator[Dialect]:
        """Yield the ways in which cells may be quoted: the format's own, and what a spreadsheet makes of it."""
        if file.columns:
            yield Dialect(delimiter, Quotes.NONE, spans=tuple(file.columns.values()))
            return
        own = Dialect(delimiter, file.quotes, file.skip_initial_space)
        anew = replace(own, quotes=Quotes.DOUBLED)
        if delimiter not in self._quotings:
            self._quotings[delimiter] = _quoting(self.text, delimiter)
        is_plain, is_escaped, is_doubled = self._quotings[delimiter]
        if file.quotes is Quotes.NONE:
            yield from (anew, own) if is_plain else (own, anew)
        elif is_escaped:
            yield replace(own, quotes=Quotes.BACKSLASH)
        elif file.quotes is Quotes.BACKSLASH:
            yield anew if is_plain else own
        elif file.quotes is Quotes.BARE:
            yield anew if is_doubled else own
        else:
            yield own


def _quoting(text: str, delimiter: str) -> tuple[bool, bool, bool]:
    """Return how quotes stand in a text, whose last line may be cut off.

    All as RFC 4180 has them, with backslashes, or doubled inside cells.
    """
    mark, open_cell = re.escape(delimiter), r'"(?:[^"\\]|\\(?s:.)|"")*+'
    end = rf"(?:{mark}|[\r\n]|\Z)"
    plain = rf'(?:(?:"(?:[^"]|"")*+"|[^{mark}"\r\n]*+){end})*+'
    is_plain = '"' in text and re.fullmatch(plain, text) is not None
    is_escaped = False
    if '\\"' in text and not is_plain:  # a cell that only ends in a backslash pairs without it
        whole_cells = rf'\A(?:(?:{open_cell}"|(?:[^{mark}"\\\r\n]|\\(?s:.))*+){end})*+'
        rest = re.sub(whole_cells, "", text, count=1)
        is_escaped = len(rest.splitlines()) <= 2 and re.fullmatch(rf"(?:{open_cell})?\\?", rest) is not None
    edge = mark + r"\r\n"
    doubled, bare = f'[^{edge}]""[^{edge}]', f'[^{edge}"]"[^{edge}"]'
    is_doubled = re.search(doubled, text) is not None and not re.search(bare, text)
    return is_plain, is_escaped, is_doubled


def sample_text(file: ExportFile, encoding: str) -> tuple[str, bool]:
    """Return the first records of a file, and whether the file ends with them and without a line end."""
    with file.open_text(encoding) as source:
        text = source.read(SAMPLE_CHARACTERS)
        whole = not source.read(1)
    if whole:
        return text, not text.endswith(("\n", "\r"))
    cut = max(text.rfind("\n"), text.rfind("\r"))
    return (text[: cut + 1] if cut >= 0 else text), False


def is_printed(cells: Sequence[str], delimiter: str) -> bool:
    """Return whether a record is a rule, a count of rows or another line that a client prints around the rows.

    None of these could be a call: there are letters and dashes where the time and the number of a row stand.
    """
    if sum(map(bool, cells)) <= MOST_CELLS:
        line = delimiter.join(cells).strip(f"\ufeff {delimiter}")
        if _PRINTED.fullmatch(line) or _PRINTED.fullmatch(line + delimiter):
            return True
    return bool(_RULE.fullmatch("".join(cells).lstrip("\ufeff")))


def is_total(cells: Sequence[str]) -> bool:
    """Return whether the first cell of a record is the word of a line of totals."""
    word = cells[0].strip() if cells else ""
    return word[:2].lower() in TOTALS_BEGIN and bool(TOTALS.fullmatch(plain_cell(word).rstrip(":").strip()))


def spilled(cells: Sequence[str], field_count: int, spill: int | None) -> tuple[str, ...]:
    """Return the cells of a row with those it has too many joined into the cell at ``spill``, by spaces."""
    surplus = len(cells) - field_count
    if spill is None or surplus <= 0:
        return tuple(cells)
    behind = spill + surplus + 1
    return (*cells[:spill], " ".join(cells[spill:behind]), *cells[behind:])


class Outline(NamedTuple):
    """The layout of a file of no known format: how many cells most records have, and which line is the header."""

    delimiter: str
    width: int
    header_line: int | None
    header: tuple[str, ...]


def outline_of(sample: Sample, delimiter: str | None, *, has_keys: bool = False) -> Outline:
    """Return the layout of a sample; its delimiter is "" where each record is one cell.

    ``delimiter``, else that of its line `sep=;`, divides the records; a comma that only ever stands between the
    digits of one number in a line does not. The header is the first record that is as wide as most, whose cells
    differ from each other and hardly ever look like values; with ``has_keys`` (of JSON objects) the first of all.
    """
    named = delimiter or sample.separator
    best = Outline(named, 1, None, ())
    best_score = (0.0, 1)
    for mark in (named,) if named else RESAVED_DELIMITERS:
        records = sample.records(Dialect(mark, Quotes.DOUBLED))
        widths = Counter(len(cells) for _, cells in records)
        width, count = max(widths.items(), key=lambda pair: (pair[1], pair[0]), default=(0, 0))
        score = (round(count / max(widths.total(), 1), 1), width)
        is_decimal = mark == "," and width == 2 and not re.search(r"(?<!\d),|,(?!\d)", sample.text)
        if width <= 1 or score <= best_score or (is_decimal and not named):
            continue
        best, best_score = Outline(mark, width, None, ()), score
        # The rows of a sheet have empty cells behind the last column.
        ends = (place for _, cells in records for place, cell in enumerate(cells, start=1) if cell.strip())
        least = max(2, min(max(ends, default=0), width) // 2)
        for line, cells in records[:HEADER_RECORDS]:
            filled = [cell.strip() for cell in cells if cell.strip()]
            values = [cell for cell in filled if re.search(_LIKE_A_VALUE, cell)]
            is_full = len(cells) == width and len(filled) >= least
            is_varied = len({*map(column_key, filled)}) >= len(filled) - 1
            if has_keys or (is_full and is_varied and len(values) <= len(filled) // 10):
                best = Outline(mark, width, line, cells)
                break
    return best


def _without_table(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of columns without that of their table: `Column1.id` (Power Query), `calls.id` (Hive)."""
    parted = [cell.partition(".") for cell in cells]
    return tuple(name for _, _, name in parted) if len({table for table, _, _ in parted}) == 1 else cells


@lru_cache(maxsize=4096)
def column_key(text: str) -> str:
    """Return a header cell in the form in which headers are compared: Latin letters and digits, lower case.

    A header without any, or with letters of another alphabet, is compared as it stands, without case.
    """
    text = caseless(text)
    plain = "" if ANOTHER_ALPHABET.search(text) else re.sub(r"[^0-9a-z]+", "", text)
    return plain or text.strip()
