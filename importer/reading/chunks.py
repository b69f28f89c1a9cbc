"""Chunks of rows as text columns, each row with its physical line."""

import csv
import hashlib
import io
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pandas as pd

from importer.formats.cells import Quotes, cell_reader, plain_cell
from importer.formats.dates import column_layouts, is_own
from importer.formats.detected import Detection
from importer.formats.sample import spilled
from importer.reading.columns import text_frame
from importer.reading.conditions import Conditions, Extensions, seconds_of
from importer.reading.no_rows import NoRows, require_one_system
from importer.reading.scanning import BLOCK_BYTES, Ints, Records, record_blocks, scan, unclosed
from schemas import data
from schemas.vocabulary import UNFINISHED_ROW

CHUNK_ROWS = 100_000
"""So many rows are prepared at once: fewer cost time (each chunk as much as 4,000 rows), more cost memory."""

MOST_BLOCKS = 4
"""A chunk is put together from so many blocks at most: where rows are long, their text sets the bound."""

LONGEST_RECORD_BYTES = 128 * 1024
SURPLUS_CELLS = 64
"""So many empty cells behind the last column are put up with, as spreadsheets and some systems write them."""

SURPLUS_CELLS_OPEN_END = 512
"""So many cells behind the last named column are passed over where a layout has an open end."""

NEIGHBOURS = 200
"""The last cell of a file without a line end is compared with those of so many rows before it."""

LONG_CELL, MANY_ROWS = 19, 20
"""Cells of a time or a random id are so long at least; of shorter ones so many rows must have the same length."""

DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")

CONTROLS = (b"\0", b"\x1f")
"""Bytes that no cell may hold: NUL, and the unit separator by which cells are joined further on."""

HINTS = data("hints")["records"]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record whose shape makes it unusable: its line, why, and a hash of it."""

    line: int
    reason: str
    hint: str
    content: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file.

    ``frame`` has ``call.line`` (int64) and a text column for each column of the file that preparing needs. One
    that the export lacks is there, empty, if preparing reads its cells itself. ``bad`` are the records that could
    not become a row. ``guessed`` has the columns of ``frame`` for these, counted from the first cell up to each
    column of ids and from the last behind it, since the fault of such a record stands in between.
    """

    frame: pd.DataFrame
    bad: tuple[BadRow, ...]
    guessed: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame) + len(self.bad)


def read_chunks(
    detection: Detection, chunk_rows: int = CHUNK_ROWS, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Chunk]:
    """Read every row of a detected file as text, at most ``chunk_rows`` at a time.

    The file itself is read ``block_bytes`` at a time. Neither number changes what is read.

    A last record that the end of the file cuts off is a bad row. Raises InputUnusableError when the file is
    damaged (a quote that is not closed and has further rows behind it), put together from two layouts, or changes
    while it is read.
    """
    no_rows = NoRows(detection)
    latest: deque[bytes] = deque(maxlen=NEIGHBOURS + 1)
    waiting: list[Chunk] = []
    blocks = record_blocks(detection, block_bytes)
    file, is_part = detection.file, detection.file.span[1] is not None
    for found in scan(blocks, detection.dialect, file.shown, file.first_line, is_part=is_part):
        rows = _without_spill(found.select(found.lines > detection.last_line_above), detection)
        rows = rows.select(~no_rows.among(rows))
        # By small blocks, memory stays small while a text becomes columns.
        for start in range(0, len(rows), chunk_rows):
            records = rows.select(slice(start, start + chunk_rows))
            if rules := detection.format.file.drop_rows:
                frame = text_frame(records, detection, _misshapen(records, detection, fewest_cells=1))
                conditions = Conditions(frame, Extensions(), has=lambda name: bool(detection.places([name])))
                dropped = frame.index[np.logical_or.reduce([conditions.hold(tests) for tests in rules])]
                records = records.select(~np.isin(np.arange(len(records)), dropped))
            if not len(records):
                continue
            starts, ends = (spans[-NEIGHBOURS - 1 :].tolist() for spans in (records.starts, records.ends))
            latest.extend(records.text[first:end] for first, end in zip(starts, ends, strict=True))
            unfinished = _unfinished(records, latest, detection) if records.last_is_open else ""
            chunk = _chunk(records, detection, unfinished)
            if len(waiting) == MOST_BLOCKS or (waiting and sum(map(len, waiting)) + len(chunk) > chunk_rows):
                yield _taken(waiting)
            waiting.append(chunk)
    if waiting:
        yield _taken(waiting)


def _taken(waiting: list[Chunk]) -> Chunk:
    """Return the rows of the chunks that wait as one, and leave none."""
    bad = tuple(row for chunk in waiting for row in chunk.bad)
    columns = ([chunk.frame for chunk in waiting], [chunk.guessed for chunk in waiting])
    waiting.clear()
    frame, guessed = (pd.concat(each, ignore_index=True) if len(each) > 1 else each[0] for each in columns)
    return Chunk(frame, bad, guessed)


def verbatim_records(
    detection: Detection, lines: Sequence[int], *, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, str]]:
    """Yield the header (if the file has one) and the records that start on these lines, in file order.

    With its line goes the text as it stands in the file, but for its last line end.
    Raises InputUnusableError when the file changes while it is read, or is not the one that was pinned.
    """
    header = [] if detection.header_line is None else [detection.header_line]
    wanted = np.concatenate((np.asarray(lines, np.int64), np.array(header, np.int64)))
    wanted.sort()  # `union1d` would take some 80 bytes a line
    blocks = record_blocks(detection, block_bytes)
    next_line = first_line = detection.file.first_line
    with detection.file.open_text(detection.encoding) as source:
        for records in scan(blocks, detection.dialect, detection.file.shown, first_line):
            at = np.searchsorted(wanted[:-1], records.lines)  # `isin` would sort all lines anew for each block
            for index in np.flatnonzero(wanted[at] == records.lines) if len(wanted) else ():
                line = int(records.lines[index])
                length = records.text.count(b"\n", records.starts[index], records.ends[index]) + 1
                text = "".join(islice(source, line - next_line, line - next_line + length))
                text = text.removesuffix("\n").removesuffix("\r")
                next_line = line + length
                yield line, text.removeprefix("\ufeff") if line == first_line else text
    detection.file.open().close()


def _without_spill(records: Records, detection: Detection) -> Records:
    """Return the records with surplus cells joined into the cell that the format lets spill.

    Records that are broken or over-long stay as they are.
    """
    too_many = (records.cells > detection.field_count) & ~records.broken
    too_many &= records.ends - records.starts <= LONGEST_RECORD_BYTES
    if detection.spill is None or not too_many.any():
        return records
    escape = "\\" if detection.dialect.quotes is Quotes.BACKSLASH else None
    parts = []
    for start, end, spills in zip(records.starts.tolist(), records.ends.tolist(), too_many.tolist(), strict=True):
        part = records.text[start:end]
        if spills:
            cells = next(cell_reader(io.StringIO(part.decode("utf-8"), newline=""), detection.dialect))
            kept = spilled(cells, detection.field_count, detection.spill)
            target, mark = io.StringIO(newline=""), detection.dialect.delimiter
            if detection.dialect.quotes is Quotes.NONE:
                target.write(mark.join(kept))
            else:
                csv.writer(  # before Python 3.13 a line end in a cell is quoted only where rows end with one
                    target, delimiter=mark, lineterminator="\n", doublequote=escape is None, escapechar=escape
                ).writerow(kept)
            part = target.getvalue().removesuffix("\n").encode("utf-8")
        parts.append(part)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    ends = np.cumsum(lengths + 1) - 1
    cells_now = np.where(too_many, detection.field_count, records.cells)
    text = b"\n".join(parts) + b"\n"
    return replace(records, text=text, starts=ends - lengths, ends=ends, cells=cells_now)


def _unfinished(records: Records, latest: Sequence[bytes], detection: Detection) -> str:
    """Return the hint for an open last record that the end of the file cuts off, or may cut off unseen, else "".

    ``latest`` are the last records that were read, this one included. A last cell that the end of the file cuts
    matters where it is of an id, a number or a time: what is left would be another call, which is notified too.
    Raises InputUnusableError where a quote in it is not closed and takes in a whole row: then the damage is not at
    the end.
    """
    spec, call, dialect, width = detection.format, detection.format.call, detection.dialect, detection.field_count
    is_alone = detection.file.span[0] and len(latest) <= NEIGHBOURS  # the rows before stand in another part
    behind = latest[-1].split(b"\n")[1:] if records.broken[-1] else []
    if is_alone or any(line.count(dialect.delimiter.encode()) + 1 >= width for line in behind):
        raise unclosed(detection.file.shown, int(records.lines[-1]))
    if records.broken[-1] or records.cells[-1] < width:
        return HINTS["cut_row"]
    names = {*spec.time.columns, *call.agent, *call.unique_by, *(name for each in call.id for name in each)}
    evidence = [spec.time.evidence.column] if spec.time.evidence else []
    names.update(filter(None, (call.customer, call.zohouser, *evidence)))
    is_quoted = dialect.quotes is not Quotes.NONE and latest[-1].endswith(b'"')
    if width - 1 not in detection.places(names) or records.cells[-1] > width or is_quoted:
        return ""
    split = (next(cell_reader([text.decode("utf-8")], dialect), []) for text in latest)
    *others, cell = (plain_cell(each[width - 1]) for each in split if len(each) >= width)
    # It is whole with the punctuation that ends all cells before it, or when it is as long as all of these; an id
    # that may end in a count needs many of them.
    ends = {re.sub(r"(?s).*[\w\s]", "", each) for each in (*others, cell)}
    is_long = len(cell) >= LONG_CELL or len(others) >= MANY_ROWS
    if (others and len(ends) == 1 and "" not in ends) or (is_long and {*map(len, others)} <= {len(cell)}):
        return ""
    return HINTS["cut_cell"].format(cell=cell[:80])


def _chunk(records: Records, detection: Detection, unfinished: str) -> Chunk:
    wrong = _misshapen(records, detection, fewest_cells=detection.field_count)
    if unfinished:
        wrong[len(records) - 1] = UNFINISHED_ROW, unfinished
    frame = text_frame(records, detection, wrong)
    require_one_system(frame, records, detection)
    surplus = [column for column in frame.columns if isinstance(column, int)]
    for index in frame.index[(frame[surplus] != "").any(axis=1)] if surplus else ():
        hint = HINTS["surplus_text" if detection.dialect.spans else "surplus_cells"]
        hint = hint.format(cells=records.cells[index], width=detection.field_count)
        wrong[int(index)] = "wrong_cell_count", hint
    for index in _torn_apart(frame, records, detection):
        wrong.setdefault(index, ("wrong_cell_count", HINTS["moved_cells"]))
    frame = frame.loc[[index not in wrong for index in frame.index]] if wrong else frame
    frame = frame.drop(columns=surplus)
    frame["call.line"] = records.lines[frame.index.to_numpy()]
    bad: list[BadRow] = []
    guessed: list[dict[str, str]] = []
    ids = detection.places(detection.format.id_columns())
    for index, (reason, hint) in sorted(wrong.items()):
        record, line = records.text[records.starts[index] : records.ends[index]], int(records.lines[index])
        bad.append(BadRow(line, reason, hint, hashlib.sha256(record).hexdigest()))
        # An unfinished row the next import takes, or another file of this run has it whole.
        if reason != UNFINISHED_ROW and len(record) <= LONGEST_RECORD_BYTES:
            cells = [*map(plain_cell, _cells_of(record, detection))]
            shift = len(cells) - detection.field_count
            # The cells from there on are moved; none is where only empty ones are missing at the end.
            for tear in {0, *ids, len(cells), detection.field_count} if shift else {0}:
                places = {name: at + shift * (at >= tear) for name, at in detection.positions.items()}
                columns = {name: cells[at] for name, at in places.items() if 0 <= at < len(cells)}
                guessed.append({**columns, "call.line": str(line)})
    text = frame.iloc[:0]
    if guessed:
        text = pd.DataFrame(guessed, columns=frame.columns, dtype="str").fillna("").astype({"call.line": "int64"})
    return Chunk(frame, tuple(bad), text)


def _cells_of(record: bytes, detection: Detection) -> list[str]:
    source = io.StringIO(record.replace(b"\0", b"").decode("utf-8"), newline="")
    return next(cell_reader(source, detection.dialect), [])


def _torn_apart(frame: pd.DataFrame, records: Records, detection: Detection) -> list[int]:
    """Return the rows with empty cells behind the last column in which something proves that cells were moved.

    An inner cell that holds a delimiter and is not quoted moves those behind it, and the last one may be empty:
    `Lee, Ann` leaves a cell that begins with a space, and more cells than most rows have; or a start or a duration
    cannot be read. Spreadsheet programs give all rows as many cells as the longest one has, the header too.
    """
    cells: Ints = records.cells[frame.index.to_numpy()]
    many = cells > detection.field_count
    if not many.any() or detection.open_end or detection.file.is_table:
        return []
    rows, call, time = frame[many], detection.format.call, detection.format.time
    sizes = Counter(map(len, detection.sample))
    usual = max(sizes, key=lambda size: (sizes[size], size), default=0)
    torn = cells[many] > max(usual, len(detection.header))
    for at in np.flatnonzero(torn).tolist():
        index = int(rows.index[at])
        split = _cells_of(records.text[records.starts[index] : records.ends[index]], detection)
        torn[at] = any(each[:1] == " " and each.strip() for each in split)
    if len(detection.header) > detection.field_count:
        return rows.index[torn].tolist()
    for name in {call.ring_seconds, call.talk_seconds, call.duration_seconds} & {*rows.columns}:
        torn |= (rows[name] != "").to_numpy() & seconds_of(rows[name]).isna().to_numpy()
    for name, layouts in zip(time.columns, column_layouts(time.formats, len(time.columns)), strict=True):
        if name in rows:
            at = detection.positions[name]
            samples = (plain_cell(cells[at]) for cells in detection.sample if at < len(cells))
            # A start may be missing, unless no row has one.
            missing = {""} if any(DATE.match(text) or is_own(text, layouts) for text in samples) else ()
            starts = (DATE.match(text) or text in missing or is_own(text, layouts) for text in rows[name].tolist())
            torn |= ~np.fromiter(map(bool, starts), dtype=np.bool_)
    return rows.index[torn].tolist()


def _misshapen(records: Records, detection: Detection, fewest_cells: int) -> dict[int, tuple[str, str]]:
    """Return the records whose bytes, length or shape keep them from being parsed, each with reason and hint."""
    most_cells = detection.field_count + (SURPLUS_CELLS_OPEN_END if detection.open_end else SURPLUS_CELLS)
    is_long = records.ends - records.starts > LONGEST_RECORD_BYTES
    unusable = (records.cells < fewest_cells) | (records.cells > most_cells) | is_long | records.broken
    has_control = np.zeros(len(records), dtype=np.bool_)
    if any(each in records.text for each in CONTROLS):
        data = np.frombuffer(records.text, dtype=np.uint8)
        at = np.flatnonzero(np.isin(data, [each[0] for each in CONTROLS]))
        owner = np.searchsorted(records.ends, at)
        inside = owner < len(records)
        owner, at = owner[inside], at[inside]
        has_control[owner[at >= records.starts[owner]]] = True
    found: dict[int, tuple[str, str]] = {}
    faults = {"control_character": has_control, "over_long_row": is_long, "broken_quotes": records.broken}
    for index in np.flatnonzero(unusable | has_control).tolist():
        reason = next((each for each, flags in faults.items() if flags[index]), "wrong_cell_count")
        found[index] = reason, HINTS[reason].format(cells=records.cells[index], width=detection.field_count)
    return found
