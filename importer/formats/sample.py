"""The beginning of a file, split in each way in which it may be written down, and what shows in it."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from importer.files import ExportFile
from importer.formats.cells import Dialect, Quotes, caseless, cell_reader, cut_line
from importer.formats.no_rows import is_printed, is_total

SAMPLE_CHARACTERS = 256 * 1024
HEADER_RECORDS = 20
SAMPLE_ROWS = 200

RESAVED_DELIMITERS = (",", ";", "\t", "|")
"""What spreadsheets write, by the machine's region and the kind of file chosen, whatever the system wrote."""

SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=([^0-9A-Za-z"\r\n])"?[,;\t| ]*(?:\r\n?|\n|\Z)', re.IGNORECASE)
"""The first line by which Excel is told the delimiter; not a row, and no part of any export's layout."""


PRINTED = Dialect("\t", Quotes.NONE)
"""How printed text is handed on when its lines are cut into cells."""


Records = list[tuple[int, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Outline:
    """What shows in a text of no known format.

    ``delimiter`` splits most records into the same number of cells, ``width``; "" where each is one cell.
    ``header`` are the cells that name the columns, in line ``header_line``; () and None without them.
    """

    delimiter: str
    width: int
    header_line: int | None = None
    header: tuple[str, ...] = ()


class Sample:
    """The first records of a file, split once for each way of dialect them down.

    ``told`` is the delimiter that a first line `sep=;` tells, "" without one. ``is_cut``: the file ends with this
    text, and without a line end. Of the cells of a record the last ``left_out`` are not looked at.
    """

    def __init__(self, text: str, first_line: int = 1, left_out: int = 0, *, is_cut: bool = False) -> None:
        text = re.sub("(?<=[\r\n])\ufeff", "", text)  # of a file that was put behind another
        first = SEPARATOR_LINE.match(text)
        self.is_cut = is_cut
        self.told = first[1] if first else ""
        self._text = text[first.end() :] if first else text
        self._first_line = first_line
        self._left_out = left_out
        self._split: dict[Dialect, Records] = {}
        self._is_escaped: dict[str, bool] = {}

    def records(self, dialect: Dialect) -> Records:
        """Return (line, cells) of the first records, without blank ones and what a database client prints."""
        if dialect not in self._split:
            self._split[dialect] = self._read(dialect)
        return self._split[dialect]

    def rows(self, dialect: Dialect, start: int, field_count: int, spill: int | None) -> list[tuple[str, ...]]:
        """Return the cells of the first rows, which stand from record ``start`` on.

        Lines of totals are none, and neither is a last record that the end of the file cuts off.
        """
        records = self.records(dialect)
        rows = [spilled(cells, field_count, spill) for _, cells in records[start:] if not is_total(cells)]
        if (
            self.is_cut
            and len(records) < HEADER_RECORDS + SAMPLE_ROWS
            and len(rows[-1] if rows else ()) < field_count
        ):
            del rows[-1:]
        return rows[:SAMPLE_ROWS]

    def has_cells(self, dialect: Dialect) -> bool:
        """Say whether any of the first records has more than one cell: most delimiters are none of this file."""
        return any(len(cells) > 1 for _, cells in self.records(dialect)[:HEADER_RECORDS])

    def has_doubled_quotes(self, delimiter: str) -> bool:
        """Say whether quotes inside cells are doubled, as a spreadsheet writes them, and never bare."""
        edge = re.escape(delimiter) + r"\r\n"
        doubled = re.search(f'[^{edge}]""[^{edge}]', self._text)
        return bool(doubled) and not re.search(f'[^{edge}"]"[^{edge}"]', self._text)

    def has_quoted_cells(self, delimiter: str) -> bool:
        """Say whether there are quotes and all of them are those of RFC 4180."""
        return '"' in self._text and not self._behind_cells('"(?:[^"]|"")*+"', '[^{mark}"\r\n]*+', delimiter)

    def has_escaped_quotes(self, delimiter: str) -> bool:
        """Say whether quotes pair where a backslash takes the meaning from some, and do not pair otherwise.

        A cell that ends in a backslash is none: its quotes pair as they stand. The last line may be cut off.
        """
        if delimiter not in self._is_escaped:
            may_be = '\\"' in self._text and not self.has_quoted_cells(delimiter)
            quoted, bare = r'"(?:[^"\\]|\\(?s:.)|"")*+', r'(?:[^{mark}"\\\r\n]|\\(?s:.))*+'
            left = self._behind_cells(f'{quoted}"', bare, delimiter) if may_be else ""
            is_open = len(left.splitlines()) <= 2 and re.fullmatch(rf"(?:{quoted})?\\?", left) is not None
            self._is_escaped[delimiter] = may_be and is_open
        return self._is_escaped[delimiter]

    def _behind_cells(self, quoted: str, bare: str, delimiter: str) -> str:
        """Return the text from where cells of these two patterns, parted by the delimiter, do not go on."""
        mark = re.escape(delimiter)
        cell = f"(?:{quoted}|{bare.format(mark=mark)})"
        found = re.match(rf"(?:{cell}(?:{mark}|[\r\n]|\Z))*+", self._text)
        return self._text[found.end() if found else 0 :]

    def _read(self, dialect: Dialect) -> Records:
        source = io.StringIO(self._text, newline="")
        lines = (cut_line(line, dialect.spans) + "\n" for line in source) if dialect.spans else source
        reader = cell_reader(lines, dialect)
        records = []
        above = self._first_line - (0 if self.told else 1)
        line = above + 1
        try:
            for cells in reader:
                if any(cells) and not is_printed(cells, dialect.delimiter):
                    records.append((line, tuple(cells[: len(cells) - self._left_out])))
                line = above + reader.line_num + 1
                if len(records) >= HEADER_RECORDS + SAMPLE_ROWS:
                    break
        except csv.Error:
            pass  # an over-long cell: what was split so far is the sample, reading names the line
        return records


def sample_text(file: ExportFile, encoding: str) -> tuple[str, bool]:
    """Return the first records of a file, and whether the file ends with them and without a line end."""
    with file.open_text(encoding) as source:
        text = source.read(SAMPLE_CHARACTERS)
        whole = not source.read(1)
    if whole:
        return text, not text.endswith(("\n", "\r"))
    cut = max(text.rfind("\n"), text.rfind("\r"))
    return (text[: cut + 1] if cut >= 0 else text), False


def spilled(cells: Sequence[str], field_count: int, spill: int | None) -> tuple[str, ...]:
    """Return the cells of a row with those it has too many joined into the cell at ``spill``, by spaces."""
    surplus = len(cells) - field_count
    if spill is None or surplus <= 0:
        return tuple(cells)
    behind = spill + surplus + 1
    return (*cells[:spill], " ".join(cells[spill:behind]), *cells[behind:])


def outline(file: ExportFile, encoding: str, delimiter: str | None = None) -> Outline:
    """Return what shows in the first records of a file; ``delimiter``, else its line `sep=;`, divides them."""
    text, is_cut = sample_text(file, encoding)
    return outline_of(Sample(text, is_cut=is_cut), delimiter)


def outline_of(sample: Sample, delimiter: str | None) -> Outline:
    """Return what shows in a sample, likewise."""
    told = delimiter or sample.told
    best, best_score = Outline(told, 1), (0.0, 1)
    for mark in (told,) if told else RESAVED_DELIMITERS:
        records = sample.records(Dialect(mark, Quotes.DOUBLED))
        widths = Counter(len(cells) for _, cells in records)
        width, count = max(widths.items(), key=lambda pair: (pair[1], pair[0]), default=(0, 0))
        score = (round(count / max(widths.total(), 1), 1), width)
        if width > 1 and score > best_score:
            named = next((each for each in records[:HEADER_RECORDS] if _names_columns(each[1], width)), None)
            best, best_score = Outline(mark, width, *(named or ())), score
    return best


def _names_columns(cells: Sequence[str], width: int) -> bool:
    """Say whether a record names columns: as wide as the rows, all different, hardly anything like a value."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if len(cells) != width or len(filled) < max(2, width // 2):
        return False
    if len({*map(column_key, filled)}) < len(filled) - 1:
        return False
    values = [cell for cell in filled if re.search(r"\d{3}|://|\d:\d", cell) or re.fullmatch(r"[\d.,+-]+", cell)]
    return len(values) <= len(filled) // 10


@lru_cache(maxsize=4096)
def column_key(text: str) -> str:
    """Return a header cell in the form in which headers are compared: Latin letters and digits, lower case.

    A header without any is compared as it stands, without case.
    """
    text = caseless(text)
    return re.sub(r"[^0-9a-z]+", "", text) or text.strip()
