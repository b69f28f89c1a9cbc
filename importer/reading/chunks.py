"""Chunks of rows as text columns, each row with its number in the file and its physical line."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.errors import InputUnusableError
from importer.formats import CdrFormat, Detection, Quotes
from importer.reading.blocks import text_blocks
from importer.reading.conditions import Conditions, Extensions, arrow_of, text_series
from importer.reading.scanning import Dialect, Records, scan

CHUNK_ROWS = 50_000
LONGEST_RECORD_BYTES = 128 * 1024
SURPLUS_CELLS = 64
"""So many empty cells behind the last column are put up with, as spreadsheets and some systems write them."""

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

    ``frame`` has one text column for each column of the format that preparing needs (empty text where the
    cell is empty or the export lacks the column) and ``line`` (int64); its index is the row's number in the
    file, from 0. ``bad`` are the records that could not become a row of it.
    """

    frame: pd.DataFrame
    bad: tuple[BadRow, ...]

    def __len__(self) -> int:
        return len(self.frame) + len(self.bad)


def dialect_of(detection: Detection) -> Dialect:
    """Return how the cells of a detected file are told apart."""
    spec = detection.format.file
    return Dialect(detection.delimiter, spec.quotes, spec.skip_initial_space)


def read_chunks(detection: Detection, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read every row of a detected file as text.

    Raises InputUnusableError when the file is damaged: an unclosed quote, a last line cut off, or a change
    while it is read.
    """
    ordinal = 0
    for records in _batches(data_records(detection), chunk_rows):
        records = _without_dropped(records, detection)
        if not len(records):
            continue
        yield _chunk(records, ordinal, detection)
        ordinal += len(records)


def data_records(detection: Detection) -> Iterator[Records]:
    """Yield the records of the file behind its header."""
    blocks = text_blocks(detection.path, detection.encoding)
    first_line = detection.header_line or 0
    for records in scan(blocks, dialect_of(detection), detection.path.name):
        rows = records.select(records.lines > first_line)
        if rows.last_is_open and len(rows):
            _require_whole_last_row(rows, detection)
        if len(rows):
            yield rows


def _require_whole_last_row(rows: Records, detection: Detection) -> None:
    if rows.cells[-1] < detection.field_count:
        raise InputUnusableError(
            f"{detection.path.name}: line {rows.lines[-1]}: the file ends in the middle of a row "
            f"({rows.cells[-1]} of {detection.field_count} cells and no line end)",
            hint="The export was cut off: export it again. Nothing of this file was used.",
        )


def _batches(parts: Iterator[Records], chunk_rows: int) -> Iterator[Records]:
    for records in parts:
        for start in range(0, len(records), chunk_rows):
            yield records.select(slice(start, start + chunk_rows))


def _without_dropped(records: Records, detection: Detection) -> Records:
    """Leave out the records that are no rows, such as a line of totals."""
    rules = detection.format.file.drop_rows
    if not rules:
        return records
    frame = _text_frame(records, detection, records.broken)
    conditions = Conditions(frame, Extensions(detection.format.numbers.extension))
    dropped = np.zeros(len(frame), dtype=np.bool_)
    for tests in rules:
        dropped |= conditions.hold(tests)
    keep = np.ones(len(records), dtype=np.bool_)
    keep[frame.index[dropped].to_numpy()] = False
    return records.select(keep)


def _chunk(records: Records, ordinal: int, detection: Detection) -> Chunk:
    wrong = {**_wrong_shapes(records, detection)}
    unusable = np.zeros(len(records), dtype=np.bool_)
    unusable[list(wrong)] = True
    frame = _text_frame(records, detection, unusable)
    wrong |= _surplus_cells(frame, records, detection)
    frame = frame.loc[[index not in wrong for index in frame.index]] if wrong else frame
    frame = frame[[*detection.format.used_columns()]]
    frame["line"] = records.lines[frame.index.to_numpy()]
    frame.index = frame.index + ordinal
    bad = tuple(
        BadRow(ordinal + index, int(records.lines[index]), reason, hint)
        for index, (reason, hint) in sorted(wrong.items())
    )
    return Chunk(frame, bad)


def _wrong_shapes(records: Records, detection: Detection) -> dict[int, tuple[str, str]]:
    expected = detection.field_count
    wrong = {
        int(index): (
            "wrong_cell_count",
            f"The row has {records.cells[index]} cells, the format has {expected}: "
            "look for a missing or surplus delimiter or quote in this line.",
        )
        for index in np.flatnonzero((records.cells < expected) | (records.cells > expected + SURPLUS_CELLS))
    }
    for index in np.flatnonzero(records.broken).tolist():
        wrong[index] = ("broken_quotes", "The quotes of this line cannot be paired: mend the line.")
    for index in np.flatnonzero(records.ends - records.starts > LONGEST_RECORD_BYTES).tolist():
        wrong[index] = ("over_long_row", "The row is longer than 128 KiB: it cannot be a call record.")
    if b"\0" in records.text:
        for index in range(len(records)):
            if b"\0" in records.text[records.starts[index] : records.ends[index]]:
                wrong[index] = ("control_character", "The row holds a NUL character: export it again.")
    return wrong


def _text_frame(records: Records, detection: Detection, left_out: np.typing.NDArray[np.bool_]) -> pd.DataFrame:
    """Return the records as text columns, trimmed, indexed by their number among ``records``.

    Columns: those the format uses, and integers from the field count on for surplus cells.
    """
    kept = np.flatnonzero(~left_out)
    positions = {
        name: detection.positions[name] for name in detection.format.used_columns() if name in detection.positions
    }
    width = int(max(detection.field_count, records.cells[kept].max(initial=0)))
    surplus = list(range(detection.field_count, width))
    frame = _parse(_text_of(records, left_out), width, [*positions.values(), *surplus], detection)
    if len(frame) != len(kept):
        raise AssertionError(f"pandas read {len(frame)} rows where {len(kept)} were scanned")
    index = pd.Index(kept)
    columns: dict[str | int, pd.Series] = {
        name: _clean(frame[positions[name]], detection.format, index)
        if name in positions
        else pd.Series("", index=index, dtype="str")
        for name in detection.format.used_columns()
    }
    columns.update({position: _clean(frame[position], detection.format, index) for position in surplus})
    return pd.DataFrame(columns, index=index)


def _text_of(records: Records, left_out: np.typing.NDArray[np.bool_]) -> bytes:
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
    spec = detection.format.file
    names = list(range(width))
    if not text:
        return pd.DataFrame({name: pd.Series([], dtype=TEXT) for name in wanted})
    return pd.read_csv(
        io.BytesIO(text),
        sep=detection.delimiter,
        header=None,
        names=names,
        usecols=wanted,
        dtype=TEXT,
        quoting=3 if spec.quotes is Quotes.NONE else 0,
        skipinitialspace=spec.skip_initial_space,
        keep_default_na=False,
        na_filter=False,
        index_col=False,
        skip_blank_lines=False,
        engine="c",
    )


def _clean(values: pd.Series, cdr_format: CdrFormat, index: pd.Index) -> pd.Series:
    """Trim a column and empty the format's words for `nothing`."""
    trimmed = pc.utf8_trim_whitespace(arrow_of(values))
    if cdr_format.empty_words:
        words = pa.array(cdr_format.empty_words, type=pa.large_string())
        trimmed = pc.if_else(pc.is_in(trimmed, value_set=words), "", trimmed)
    return text_series(trimmed, index)


def _surplus_cells(frame: pd.DataFrame, records: Records, detection: Detection) -> dict[int, tuple[str, str]]:
    surplus = [column for column in frame.columns if isinstance(column, int)]
    if not surplus:
        return {}
    filled = (frame[surplus] != "").any(axis=1)
    return {
        int(index): (
            "wrong_cell_count",
            f"The row has {records.cells[index]} cells, the format has {detection.field_count}: "
            "look for a delimiter inside a cell that is not quoted.",
        )
        for index in frame.index[filled]
    }
