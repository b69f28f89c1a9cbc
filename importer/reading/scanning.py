"""Where each record begins and ends, how many cells it has and on which line it stands.

pandas reads fast, but pads short rows, drops blank lines and swallows the rest of a file behind an unclosed
quote without a word. So the structure is found here first, with numpy over whole blocks, and pandas is given
only records whose shape is known. A block whose quotes do not follow RFC 4180 goes through `csv` instead.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from importer.errors import InputUnusableError
from importer.formats import Quotes

QUOTE, NEWLINE, SPACE = b'" \n'[0], b'" \n'[2], b'" \n'[1]
OPEN_RECORD_BYTES = 16 << 20
"""A quote that is still open after so many bytes was never meant to be closed."""

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are told apart: one-byte delimiter, quoting, and whether a space may stand before a quote."""

    delimiter: str
    quotes: Quotes
    skip_initial_space: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records inside ``text``: their byte spans (without line end), line and cell count.

    ``broken`` marks records whose quotes cannot be paired. ``last_is_open`` says that the text ended without
    a line end.
    """

    text: bytes
    starts: Ints
    ends: Ints
    lines: Ints
    cells: Ints
    broken: Flags
    last_is_open: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, wanted: slice | Flags) -> "Records":
        """Return the records that ``wanted`` picks."""
        return Records(
            self.text,
            self.starts[wanted],
            self.ends[wanted],
            self.lines[wanted],
            self.cells[wanted],
            self.broken[wanted],
            self.last_is_open,
        )

    def record(self, index: int) -> str:
        """Return one record as it stands in the file."""
        return self.text[self.starts[index] : self.ends[index]].decode("utf-8")


def scan(blocks: Iterator[bytes], dialect: Dialect, name: str) -> Iterator[Records]:
    """Yield the non-blank records of a file, block by block.

    Raises InputUnusableError naming the line of a quote that is never closed.
    """
    rest, line = b"", 1
    for block in blocks:
        text = rest + block
        records, used = _scan_text(text, line, dialect)
        rest = text[used:]
        if len(rest) > OPEN_RECORD_BYTES:
            raise _unclosed(name, line + text[:used].count(b"\n"))
        line += text[:used].count(b"\n")
        yield records
    if rest:
        records, used = _scan_text(rest + b"\n", line, dialect)
        if used == 0:
            raise _unclosed(name, line)
        yield replace(records, last_is_open=True)


def _unclosed(name: str, line: int) -> InputUnusableError:
    return InputUnusableError(
        f"{name}: line {line}: a quote that is opened in this record is never closed",
        hint="The export is damaged or cut off: export it again. Nothing of this file was used.",
    )


def _scan_text(text: bytes, line: int, dialect: Dialect) -> tuple[Records, int]:
    """Return the whole records of ``text`` and how many bytes they take up."""
    data = np.frombuffer(text, dtype=np.uint8)
    if dialect.quotes is Quotes.BARE:
        return _scan_bare(text, data, line, dialect)
    newlines = np.flatnonzero(data == NEWLINE)
    delimiters = np.flatnonzero(data == ord(dialect.delimiter))
    if dialect.quotes is Quotes.NONE or b'"' not in text:
        return _records(text, newlines, newlines, delimiters, line)
    quotes = np.flatnonzero(data == QUOTE)
    if _has_stray_quote(data, quotes, dialect):
        return _scan_slowly(text, line, dialect)
    ends = newlines[_outside(quotes, newlines)]
    return _records(text, ends, newlines, delimiters[_outside(quotes, delimiters)], line)


def _outside(quotes: Ints, positions: Ints) -> Flags:
    """Say which positions stand outside quotes: behind an even number of them."""
    return np.asarray(np.searchsorted(quotes, positions) % 2 == 0, dtype=np.bool_)


def _records(text: bytes, ends: Ints, newlines: Ints, delimiters: Ints, line: int) -> tuple[Records, int]:
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64) if len(ends) else ends
    commas = np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
    lines = line + np.searchsorted(newlines, starts)
    records = Records(text, starts, ends, lines, commas + 1, np.zeros(len(ends), dtype=np.bool_))
    not_blank = (ends - starts) > commas
    return records.select(not_blank), int(ends[-1]) + 1 if len(ends) else 0


def _begins_cell(data: Bytes, dialect: Dialect) -> Flags:
    """Say for each byte whether a cell may begin there."""
    delimiter = ord(dialect.delimiter)
    edge = (data == delimiter) | (data == NEWLINE)
    begins = np.ones(len(data), dtype=np.bool_)
    begins[1:] = edge[:-1]
    if dialect.skip_initial_space:
        begins[2:] |= (data[1:-1] == SPACE) & edge[:-2]
    return begins


def _has_stray_quote(data: Bytes, quotes: Ints, dialect: Dialect) -> bool:
    """Say whether a quote opens anywhere but where a cell begins or right behind a closing one."""
    opening = quotes[::2]
    before = data[np.maximum(opening - 1, 0)]
    fine = (before == ord(dialect.delimiter)) | (before == NEWLINE) | (before == QUOTE) | (opening == 0)
    if dialect.skip_initial_space and not fine.all():
        fine |= _begins_cell(data, dialect)[opening]
    return not bool(fine.all())


def _scan_slowly(text: bytes, line: int, dialect: Dialect) -> tuple[Records, int]:
    """Split with `csv`, which takes a quote inside an unquoted cell for a letter, and write it down anew."""
    whole = text[: text.rfind(b"\n") + 1].decode("utf-8")
    fed = lines_fed = 0

    def feed() -> Iterator[str]:
        nonlocal fed, lines_fed
        for each in whole.split("\n")[:-1]:
            fed += len(each.encode("utf-8")) + 1
            lines_fed += 1
            yield each + "\n"
        yield "\x1f\n"  # swallowed when a quote is still open at the end

    written, spans, used = io.StringIO(), [], 0
    writer = csv.writer(written, delimiter=dialect.delimiter, lineterminator="\n")
    start_line = line
    try:
        reader = csv.reader(feed(), delimiter=dialect.delimiter, skipinitialspace=dialect.skip_initial_space)
        for cells in reader:
            if cells == ["\x1f"] or any("\x1f\n" in cell for cell in cells[-1:]):
                break
            if any(cells):
                writer.writerow(cells)
                spans.append((start_line, len(cells), written.tell()))
            used, start_line = fed, line + lines_fed
    except csv.Error as error:
        raise InputUnusableError(
            f"line {start_line}: {error}", hint="The export is damaged: export it again."
        ) from error
    return _rewritten(written.getvalue(), spans), used


def _rewritten(text: str, spans: list[tuple[int, int, int]]) -> Records:
    lengths = [0, *(end for _, _, end in spans)]
    edges = [len(text[a:b].encode("utf-8")) for a, b in pairwise(lengths)]
    stops = np.cumsum(np.array(edges, dtype=np.int64))
    starts = stops - np.array(edges, dtype=np.int64)
    return Records(
        text.encode("utf-8"),
        starts,
        stops - 1,
        np.array([line for line, _, _ in spans], dtype=np.int64),
        np.array([cells for _, cells, _ in spans], dtype=np.int64),
        np.zeros(len(spans), dtype=np.bool_),
    )


def _scan_bare(text: bytes, data: Bytes, line: int, dialect: Dialect) -> tuple[Records, int]:
    """Scan an export that does not escape inner quotes: a quote counts only at the edge of a cell.

    A record is one line then. Inner quotes are doubled in the text that is handed on, so that pandas agrees.
    """
    used = text.rfind(b"\n") + 1
    text, data = text[:used], data[:used]
    ends = np.flatnonzero(data == NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64) if used else ends
    opens, closes = _edge_quotes(data, dialect)
    depth = np.cumsum(opens.astype(np.int64) - closes.astype(np.int64))
    base = np.concatenate(([0], depth[ends[:-1]])) if used else depth
    level = depth - np.repeat(base, ends + 1 - starts)
    delimiters = np.flatnonzero((data == ord(dialect.delimiter)) & (level == 0))
    records, _ = _records(text, ends, ends, delimiters, line)
    astray = np.flatnonzero((level < 0) | (level > 1) | ((data == NEWLINE) & (level != 0)))
    owner = np.searchsorted(records.ends, astray)
    records.broken[owner[owner < len(records)]] = True
    inner = np.flatnonzero((data == QUOTE) & ~opens & ~closes)
    return _with_doubled(records, data, inner), used


def _edge_quotes(data: Bytes, dialect: Dialect) -> tuple[Flags, Flags]:
    quote = data == QUOTE
    ends_after = np.ones(len(data), dtype=np.bool_)
    ends_after[:-1] = (data[1:] == ord(dialect.delimiter)) | (data[1:] == NEWLINE)
    opens = quote & _begins_cell(data, dialect)
    return opens, quote & ends_after & ~opens


def _with_doubled(records: Records, data: Bytes, inner: Ints) -> Records:
    if not len(inner):
        return records
    text = np.insert(data, inner, QUOTE).tobytes()
    starts = records.starts + np.searchsorted(inner, records.starts)
    ends = records.ends + np.searchsorted(inner, records.ends)
    return replace(records, text=text, starts=starts, ends=ends)
