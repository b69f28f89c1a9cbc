"""Chunks of rows as text columns, each row with its number in the file and its physical line."""

import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats import CdrFormat, Detection, Quotes
from importer.formats.cells import cell_reader, plain_cell
from importer.formats.dates import Rewriting
from importer.reading.blocks import BLOCK_BYTES, record_blocks
from importer.reading.cleaning import Cleaning
from importer.reading.conditions import Conditions, Extensions, Flags, arrow_of, text_series
from importer.reading.no_rows import NoRows
from importer.reading.scanning import Dialect, Records, scan, unclosed
from importer.reading.spilling import without_spill
from schemas.vocabulary import UNFINISHED_ROW

CHUNK_ROWS = 50_000
"""So many rows are prepared at once: fewer cost time (each chunk as much as 4,000 rows), more cost memory."""

MOST_BLOCKS = 4
"""A chunk is put together from so many blocks at most: where rows are long, their text sets the bound."""

LONGEST_RECORD_BYTES = 128 * 1024
SURPLUS_CELLS = 64
"""So many empty cells behind the last column are put up with, as spreadsheets and some systems write them."""

SURPLUS_CELLS_OPEN_END = 512
"""So many cells behind the last named column are passed over where a layout has an open end."""

NEIGHBOURS = 200
"""So many rows before the last tell what its last cell looks like where the file ends in it."""

LONG_CELL, MANY_ROWS = 19, 20
"""Cells of a time or a random id are so long at least; of shorter ones so many rows must have the same length."""

CONTROLS = (b"\0", b"\x1f")
"""Bytes that no cell may hold: NUL, and the unit separator by which cells are joined further on."""

TEXT = pd.ArrowDtype(pa.large_string())


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record whose shape makes it unusable: its number in the file (from 0), its line, and why."""

    ordinal: int
    line: int
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file.

    ``frame`` has ``line`` (int64) and one text column for each column of the format that preparing needs (empty
    text where the cell is empty), and for one that the export lacks only where its cells are read as they are; its
    index is the row's number in the file, from 0. ``bad`` are the records that could not become a row of it.
    """

    frame: pd.DataFrame
    bad: tuple[BadRow, ...]

    def __len__(self) -> int:
        return len(self.frame) + len(self.bad)


def dialect_of(detection: Detection) -> Dialect:
    """Return how the cells of a detected file are told apart."""
    return Dialect(detection.delimiter, detection.quotes, detection.format.file.skip_initial_space)


def read_chunks(
    detection: Detection, chunk_rows: int = CHUNK_ROWS, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Chunk]:
    """Read every row of a detected file as text, at most ``chunk_rows`` at a time.

    The file itself is read ``block_bytes`` at a time. Neither number changes what is read.

    A last record that the end of the file cuts off is a bad row. Raises InputUnusableError when the file is
    damaged (a quote that is not closed and has further rows behind it), put together from two layouts, or changes
    while it is read.
    """
    waiting: list[Chunk] = []
    for chunk in _chunks(detection, chunk_rows, block_bytes):
        if len(waiting) == MOST_BLOCKS or (waiting and sum(map(len, waiting)) + len(chunk) > chunk_rows):
            yield _taken(waiting)
        waiting.append(chunk)
    if waiting:
        yield _taken(waiting)


def _chunks(detection: Detection, chunk_rows: int, block_bytes: int) -> Iterator[Chunk]:
    """Yield the rows block by block: by small blocks, memory stays small while a text becomes columns."""
    ordinal = 0
    no_rows = NoRows.of(detection)
    latest: deque[bytes] = deque(maxlen=NEIGHBOURS + 1)
    for batch in _batches(data_records(detection, block_bytes), chunk_rows):
        records = _without_dropped(batch, no_rows)
        if not len(records):
            continue
        spans = zip(
            records.starts[-NEIGHBOURS - 1 :].tolist(), records.ends[-NEIGHBOURS - 1 :].tolist(), strict=True
        )
        latest.extend(records.text[start:end] for start, end in spans)
        yield _chunk(records, ordinal, detection, _unfinished(records, latest, detection))
        ordinal += len(records)


def _taken(waiting: list[Chunk]) -> Chunk:
    """Return the rows of the chunks that wait as one, and leave none."""
    frames = [chunk.frame for chunk in waiting]
    joined = Chunk(
        pd.concat(frames) if len(frames) > 1 else frames[0], tuple(row for chunk in waiting for row in chunk.bad)
    )
    waiting.clear()
    return joined


def data_records(detection: Detection, block_bytes: int = BLOCK_BYTES) -> Iterator[Records]:
    """Yield the records of the file behind its header."""
    blocks = record_blocks(detection, block_bytes)
    for records in scan(blocks, dialect_of(detection), detection.file.shown, detection.file.first_line):
        rows = records.select(records.lines > detection.last_line_above)
        if len(rows):
            yield without_spill(rows, detection, LONGEST_RECORD_BYTES)


def _unfinished(records: Records, latest: Sequence[bytes], detection: Detection) -> str:
    """Return what is said of the last record where the end of the file cuts it off, or may do so unseen, else "".

    ``latest`` are the last records that were read, this one included. Raises InputUnusableError where a quote in
    it is not closed and takes in a whole row: then the damage is not at the end.
    """
    if not records.last_is_open:
        return ""
    behind = latest[-1].split(b"\n")[1:] if records.broken[-1] else []
    if any(line.count(detection.delimiter.encode()) + 1 >= detection.field_count for line in behind):
        raise unclosed(detection.file.shown, int(records.lines[-1]))
    if records.broken[-1] or records.cells[-1] < detection.field_count:
        return (
            "The file ends in the middle of this row: it was read while it was written, or was cut off. The next "
            "import of the whole file takes it."
        )
    if records.cells[-1] > detection.field_count or _is_last_cell_whole(latest, detection):
        return ""
    cell = _last_cells([latest[-1]], detection)[0]
    return (
        "The file ends in the last cell of this row, without a line end, and nothing tells whether "
        f'"{cell[:80]}" is all of it. If the file is whole, add a line end and import it again; else the next '
        "import of the whole file takes the row."
    )


def _is_last_cell_whole(latest: Sequence[bytes], detection: Detection) -> bool:
    """Say whether the cell in which the file ends is whole, or could make no other call if it were not.

    It is whole behind a closing quote, with the punctuation that ends this cell in the rows before it, or when it
    is as long as in all of these; an id that may end in a count needs many of them. A cut id, number or time would
    be another call, which is notified too.
    """
    spec, call = detection.format, detection.format.call
    names = {
        *spec.time.columns,
        call.customer,
        *call.agent,
        *call.unique_by,
        *(name for each in call.id for name in each),
    }
    names |= {call.zohouser} if call.zohouser else set()
    names |= {spec.time.evidence.column} if spec.time.evidence else set()
    last = detection.field_count - 1
    if not any(detection.positions.get(origin) == last for name in names for origin in spec.origins(name)):
        return True
    if detection.quotes is not Quotes.NONE and latest[-1].endswith(b'"'):
        return True
    *others, cell = _last_cells(latest, detection)
    ends = {re.sub(r"(?s).*[\w\s]", "", each) for each in [*others, cell]}
    if others and len(ends) == 1 and "" not in ends:
        return True
    return all(len(other) == len(cell) for other in others) and (
        len(cell) >= LONG_CELL or len(others) >= MANY_ROWS
    )


def _last_cells(records: Sequence[bytes], detection: Detection) -> list[str]:
    """Return the last cell of each record that has enough of them."""
    skip, last = detection.format.file.skip_initial_space, detection.field_count - 1
    split = (
        next(
            cell_reader([text.decode("utf-8")], detection.delimiter, detection.quotes, skip_initial_space=skip), []
        )
        for text in records
    )
    return [plain_cell(cells[last]) for cells in split if len(cells) > last]


def _batches(parts: Iterator[Records], chunk_rows: int) -> Iterator[Records]:
    for records in parts:
        for start in range(0, len(records), chunk_rows):
            yield records.select(slice(start, start + chunk_rows))


def _without_dropped(records: Records, no_rows: NoRows) -> Records:
    """Leave out the records that are no rows of any format, and those that the format names."""
    detection = no_rows.detection
    found = no_rows.among(records)
    if found.any():
        records = records.select(~found)
    rules = detection.format.file.drop_rows
    if not rules:
        return records
    frame = _text_frame(records, detection, _misshapen(records, detection, fewest_cells=1))
    conditions = Conditions(frame, Extensions(detection.format.numbers.extension))
    dropped = np.zeros(len(frame), dtype=np.bool_)
    for tests in rules:
        dropped |= conditions.hold(tests)
    keep = np.ones(len(records), dtype=np.bool_)
    keep[frame.index[dropped].to_numpy()] = False
    return records.select(keep)


def _chunk(records: Records, ordinal: int, detection: Detection, unfinished: str) -> Chunk:
    unusable = _misshapen(records, detection, fewest_cells=detection.field_count)
    wrong = {int(index): _what_is_wrong(records, int(index), detection) for index in np.flatnonzero(unusable)}
    if unfinished:
        unusable[-1] = True
        wrong[len(records) - 1] = UNFINISHED_ROW, unfinished
    frame = _text_frame(records, detection, unusable)
    wrong |= _surplus_cells(frame, records, detection)
    frame = frame.loc[[index not in wrong for index in frame.index]] if wrong else frame
    frame = frame[[name for name in detection.format.used_columns() if name in frame]]
    frame["line"] = records.lines[frame.index.to_numpy()]
    frame.index = frame.index + ordinal
    bad = tuple(
        BadRow(ordinal + index, int(records.lines[index]), reason, hint)
        for index, (reason, hint) in sorted(wrong.items())
    )
    return Chunk(frame, bad)


def _misshapen(records: Records, detection: Detection, fewest_cells: int) -> Flags:
    """Say for each record whether its shape, its length or its bytes keep it from being parsed."""
    most_cells = detection.field_count + (SURPLUS_CELLS_OPEN_END if detection.open_end else SURPLUS_CELLS)
    return (
        (records.cells < fewest_cells)
        | (records.cells > most_cells)
        | (records.ends - records.starts > LONGEST_RECORD_BYTES)
        | records.broken
        | _holds_control(records)
    )


def _holds_control(records: Records) -> Flags:
    """Say for each record whether it holds a NUL or the unit separator that later joins cells."""
    found = np.zeros(len(records), dtype=np.bool_)
    if not any(each in records.text for each in CONTROLS):
        return found
    data = np.frombuffer(records.text, dtype=np.uint8)
    at = np.flatnonzero(np.isin(data, [each[0] for each in CONTROLS]))
    owner = np.searchsorted(records.ends, at)
    inside = owner < len(records)
    owner, at = owner[inside], at[inside]
    found[owner[at >= records.starts[owner]]] = True
    return found


def _what_is_wrong(records: Records, index: int, detection: Detection) -> tuple[str, str]:
    record = records.text[records.starts[index] : records.ends[index]]
    if any(each in record for each in CONTROLS):
        return "control_character", "The row holds a control character (NUL or unit separator): export it again."
    if len(record) > LONGEST_RECORD_BYTES:
        return "over_long_row", "The row is longer than 128 KiB: it cannot be a call record."
    if records.broken[index]:
        return "broken_quotes", "The quotes of this line cannot be paired: mend the line."
    return (
        "wrong_cell_count",
        f"The row has {records.cells[index]} cells, the format has {detection.field_count}: "
        "look for a missing or surplus delimiter or quote in this line.",
    )


def _text_frame(records: Records, detection: Detection, left_out: Flags) -> pd.DataFrame:
    """Return the records as text columns, trimmed, indexed by their number among ``records``.

    Columns: those the format uses, and integers from the field count on for surplus cells.
    """
    kept = np.flatnonzero(~left_out)
    positions = {
        name: detection.positions[name] for name in detection.format.used_columns() if name in detection.positions
    }
    width = int(max(detection.field_count, records.cells[kept].max(initial=0)))
    surplus = [] if detection.open_end else list(range(detection.field_count, width))
    text = _text_of(records, left_out)
    cleaning = Cleaning.of(text)
    frame = _parse(text, width, [*positions.values(), *surplus], detection)
    if len(frame) != len(kept):
        raise AssertionError(f"pandas read {len(frame)} rows where {len(kept)} were scanned")
    index = pd.Index(kept)
    if detection.rewriting is not None:
        for name in detection.rewriting.layouts.keys() & positions.keys():
            frame[positions[name]] = _written_back(frame[positions[name]], name, detection.rewriting)
    lacking = pd.Series("", index=index, dtype="str")
    columns: dict[str | int, pd.Series] = {
        name: _clean(frame[positions[name]], detection.format, index, cleaning) if name in positions else lacking
        for name in detection.format.used_columns()
        if name in positions or name in detection.format.text_columns()
    }
    columns.update({place: _clean(frame[place], detection.format, index, cleaning) for place in surplus})
    return pd.DataFrame(columns, index=index)


def _text_of(records: Records, left_out: Flags) -> bytes:
    """Return the text of the kept records; one slice when nothing is left out and nothing stands between."""
    if not len(records):
        return b""
    gaps = records.starts[1:] - records.ends[:-1]
    if not left_out.any() and (gaps == 1).all():
        return records.text[records.starts[0] : records.ends[-1]] + b"\n"
    kept = np.flatnonzero(~left_out)
    return b"".join(
        records.text[start:end] + b"\n"
        for start, end in zip(records.starts[kept].tolist(), records.ends[kept].tolist(), strict=True)
    )


def _parse(text: bytes, width: int, wanted: list[int], detection: Detection) -> pd.DataFrame:
    names = list(range(width))
    if not text:
        return pd.DataFrame({name: pd.Series([], dtype=TEXT) for name in wanted})
    # A first line of full width, taken off again: pandas 3.1 refuses columns that no row has, and takes a byte
    # order mark away from the beginning of any text.
    full_width = detection.delimiter.encode() * (width - 1) + b"\n"
    frame = pd.read_csv(
        io.BytesIO(full_width + text),
        sep=detection.delimiter,
        header=None,
        names=names,
        usecols=wanted,
        dtype=TEXT,
        quoting=3 if detection.quotes is Quotes.NONE else 0,
        escapechar="\\" if detection.quotes is Quotes.BACKSLASH else None,
        skipinitialspace=detection.format.file.skip_initial_space,
        keep_default_na=False,
        na_filter=False,
        index_col=False,
        skip_blank_lines=False,
        engine="c",
    )
    return frame.iloc[1:]


def _written_back(values: pd.Series, name: str, rewriting: Rewriting) -> pd.Series:
    """Return a column of times as the system wrote them; cell by cell, since only re-saved files need it."""
    texts = (rewriting.written_back(name, plain_cell(text)) for text in values.tolist())
    return pd.Series(list(texts), index=values.index, dtype=TEXT)


def _clean(values: pd.Series, cdr_format: CdrFormat, index: pd.Index, cleaning: Cleaning) -> pd.Series:
    """Trim and clean a column, and empty the format's words for `nothing`."""
    trimmed = cleaning.column(arrow_of(values))
    if cdr_format.empty_words:
        words = pa.array(cdr_format.empty_words, type=pa.large_string())
        empty = pc.is_in(trimmed, value_set=words)
        if pc.any(empty).as_py():  # rarely: sparing the copy takes a third off
            trimmed = pc.if_else(empty, "", trimmed)
    return text_series(trimmed, index)


def _surplus_cells(frame: pd.DataFrame, records: Records, detection: Detection) -> dict[int, tuple[str, str]]:
    surplus = [column for column in frame.columns if isinstance(column, int)]
    if not surplus:
        return {}
    filled = (frame[surplus] != "").any(axis=1)
    if detection.format.file.spans:
        hint = (
            "Something stands between or behind the columns of the format: this line is laid out in another way."
        )
        return {int(index): ("wrong_cell_count", hint) for index in frame.index[filled]}
    return {
        int(index): (
            "wrong_cell_count",
            f"The row has {records.cells[index]} cells, the format has {detection.field_count}: "
            "look for a delimiter inside a cell that is not quoted.",
        )
        for index in frame.index[filled]
    }
