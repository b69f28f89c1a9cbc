"""Records as columns of text, each cell as it is meant: parsed by pandas, then cleaned column by column."""

import io
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.cells import (
    APOSTROPHE,
    FORCED,
    INVISIBLE,
    NO_BREAK_SPACES,
    NO_DATE_TIME,
    NO_ID,
    NO_LONE_ID,
    NO_TIME,
    NULLS,
    POINTED,
    Quotes,
    plain_cell,
    ungrouped,
)
from importer.formats.dates import written_back
from importer.formats.detected import Detection
from importer.formats.language import CdrFormat
from importer.reading.conditions import arrow_of, matches, text_series
from importer.reading.scanning import Records

TEXT = pd.ArrowDtype(pa.large_string())

_LEADS = tuple(mark.encode("utf-8")[:2] for mark in "\u00ad\u061c\u00a0\u200b\u2060\ufeff")
"""The first two bytes of all marks in UTF-8; other characters begin so too, which costs time and nothing else."""


def text_frame(records: Records, detection: Detection, left_out: Collection[int]) -> pd.DataFrame:
    """Return the other records as text columns, as their cells are meant, indexed by their number in ``records``.

    Columns: those the format uses, and integers from the field count on for surplus cells.
    """
    kept = np.delete(np.arange(len(records)), [*left_out])
    used, as_they_are = detection.format.used_columns(), detection.format.text_columns()
    positions = {name: detection.positions[name] for name in used if name in detection.positions}
    width = int(max(detection.field_count, records.cells[kept].max(initial=0)))
    surplus = [] if detection.open_end else list(range(detection.field_count, width))
    if len(kept) == len(records) > 0 and (records.starts[1:] - records.ends[:-1] == 1).all():
        text = records.text[records.starts[0] : records.ends[-1] + 1]  # one slice: nothing stands between
    else:
        spans = zip(records.starts[kept].tolist(), records.ends[kept].tolist(), strict=True)
        text = b"".join(records.text[start:end] + b"\n" for start, end in spans)
    frame = _parsed(text, width, [*positions.values(), *surplus], detection)
    if len(frame) != len(kept):
        raise AssertionError(f"pandas read {len(frame)} rows where {len(kept)} were scanned")
    if detection.rewriting is not None:
        order, columns_of_times = detection.rewriting
        for name, layouts in columns_of_times.items():
            if name in positions:  # cell by cell, since only re-saved files need it
                values = frame[positions[name]]
                texts = [written_back(plain_cell(each), layouts, order) for each in values.tolist()]
                frame[positions[name]] = pd.Series(texts, index=values.index, dtype=TEXT)
    index, words = pd.Index(kept), detection.format.empty_words
    cleaned = {place: text_series(column, index) for place, column in clean_columns(frame, text, words)}
    for name in detection.pointed:
        cleaned[positions[name]] = cleaned[positions[name]].str.replace(POINTED, r"\1", regex=True)
    for name in detection.grouped:
        cleaned[positions[name]] = cleaned[positions[name]].map(ungrouped).astype("str")
    for name, nothing in _words_for_nothing(detection.format).items():
        if name in positions:
            cleaned[positions[name]] = _emptied(cleaned[positions[name]], nothing)
    lacking = pd.Series("", index=index, dtype="str")
    columns: dict[str | int, pd.Series] = {
        name: cleaned[positions[name]] if name in positions else lacking
        for name in used
        if name in positions or name in as_they_are
    }
    return pd.DataFrame(columns | {place: cleaned[place] for place in surplus}, index=index)


def _words_for_nothing(cdr_format: CdrFormat) -> dict[str, str]:
    """Return for columns that may be empty the pattern of the words that programs write in place of nothing."""
    call, origins = cdr_format.call, cdr_format.origins
    nothing = dict.fromkeys((*cdr_format.origins_of_ids(), *cdr_format.columns_tested_for_emptiness()), NO_ID)
    lone = [*(names[0] for names in call.id if len(names) == 1), *filter(None, [call.zohouser])]
    nothing |= {each: NO_LONE_ID for name in lone for each in origins(name)}
    if call.answer_time:  # else it is attended
        no_time = NO_DATE_TIME if len(cdr_format.time.columns) == 1 else NO_TIME
        nothing |= dict.fromkeys(origins(call.answer_time), no_time)
    return nothing


def _emptied(cells: pd.Series, nothing: str) -> pd.Series:
    """Return cells, empty where they hold a word for nothing.

    The pattern is tried on few cells, in a tenth of the time. A time begins with its year. Of the words for no id
    none begins with a digit other than 0, and those of more than nine letters begin with `-` or 0.
    """
    texts = arrow_of(cells)
    lengths = pc.binary_length(texts)
    if nothing in (NO_ID, NO_LONE_ID):
        is_other = pc.or_(pc.less(texts, ":"), pc.greater(lengths, 9))
        is_other = pc.and_(pc.greater_equal(texts, "1"), is_other)
    else:
        is_other = pc.starts_with(texts, "20")
    is_other = pc.or_(pc.equal(lengths, 0), is_other)
    places = np.flatnonzero(~np.asarray(is_other.to_numpy(), dtype=np.bool_))
    empty = places[matches(cells.iloc[places], nothing)] if len(places) else places
    return cells.mask(cells.index.isin(cells.index[empty]), "") if len(empty) else cells


def _parsed(text: bytes, width: int, wanted: list[int], detection: Detection) -> pd.DataFrame:
    if not text:
        return pd.DataFrame({name: pd.Series([], dtype=TEXT) for name in wanted})
    # A first line of full width, taken off again: pandas 3.1 refuses columns that no row has, and takes a byte
    # order mark away from the beginning of any text.
    full_width = detection.dialect.delimiter.encode() * (width - 1) + b"\n"
    frame = pd.read_csv(
        io.BytesIO(full_width + text),
        sep=detection.dialect.delimiter,
        header=None,
        names=list(range(width)),
        usecols=wanted,
        dtype=TEXT,
        quoting=3 if detection.dialect.quotes is Quotes.NONE else 0,
        escapechar="\\" if detection.dialect.quotes is Quotes.BACKSLASH else None,
        skipinitialspace=detection.format.file.skip_initial_space,
        keep_default_na=False,
        na_filter=False,
        index_col=False,
        skip_blank_lines=False,
        engine="c",
        low_memory=False,  # which is faster, and a block is small enough
    )
    return frame.iloc[1:]


def clean_columns(
    frame: pd.DataFrame, text: bytes, empty_words: Sequence[str]
) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """Yield the numbered columns of a frame as Arrow text, each cell as `plain_cell` has it.

    ``empty_words`` become "".
    ``text`` in UTF-8 is what the frame was read from: nearly always it needs trimming only.
    """
    has_marks = not text.isascii() and any(lead in text for lead in _LEADS)
    # One byte is searched for twenty times as fast as two; each column is looked at by its first letter again.
    wrappings = [
        (start, each.pattern) for start, each in (("=", FORCED), ("'", APOSTROPHE)) if start.encode() in text
    ]
    nothing = pa.array([*empty_words, *NULLS], type=pa.large_string())
    longest = pc.max(pc.binary_length(nothing))
    for place, column in frame.items():
        values = arrow_of(column)
        if has_marks:
            values = pc.replace_substring_regex(values, pattern=INVISIBLE.pattern, replacement="")
            values = pc.replace_substring_regex(values, pattern=NO_BREAK_SPACES.pattern, replacement=" ")
        values = pc.utf8_trim_whitespace(values)
        for start, pattern in wrappings:
            if pc.any(pc.starts_with(values, start), min_count=0).as_py():
                values = pc.replace_substring_regex(values, pattern=f"^(?:{pattern})$", replacement=r"\1")
                values = pc.utf8_trim_whitespace(values)
        lengths = pc.binary_length(values)  # settles most columns in a tenth of the time
        if pc.any(pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, longest)), min_count=0).as_py():
            empty = pc.is_in(values, value_set=nothing)
            if pc.any(empty, min_count=0).as_py():  # rarely: sparing the copy takes a third off
                values = pc.if_else(empty, "", values)
        yield int(str(place)), values
