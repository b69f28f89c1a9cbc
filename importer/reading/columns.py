"""Records as columns of text, each cell as it is meant: parsed by pandas, then cleaned column by column."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats import cells
from importer.formats.cells import Quotes
from importer.formats.dates import written_back
from importer.formats.detected import Detection
from importer.formats.language import CdrFormat
from importer.reading.conditions import arrow_of, text_series
from importer.reading.scanning import Bytes, Ints, Records

TEXT = pd.ArrowDtype(pa.large_string())

_LEADS = tuple(mark.encode("utf-8")[:2] for mark in "\u00ad\u061c\u00a0\u200b\u2060\ufeff")
"""The first two bytes of all marks in UTF-8; other characters begin so too, which costs time and nothing else."""

_MAY_BE_SPACE = np.array([byte <= ord(" ") or byte > 127 for byte in range(256)])
"""Which bytes may be the first or the last of white space in UTF-8."""


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
    arrays = {int(str(place)): arrow_of(column).combine_chunks() for place, column in frame.items()}
    if detection.rewriting is not None:
        order, columns_of_times = detection.rewriting
        for name, layouts in columns_of_times.items():
            if name in positions:  # cell by cell, since only re-saved files need it
                values = arrays[positions[name]].to_pylist()
                texts = [written_back(cells.plain_cell(each), layouts, order) for each in values]
                arrays[positions[name]] = pa.array(texts, type=pa.large_string())
    arrays = dict(clean_columns(arrays, text, detection.format.empty_words))
    for name in detection.pointed:
        arrays[positions[name]] = pc.replace_substring_regex(arrays[positions[name]], cells.POINTED, r"\1")
    for name in detection.grouped:
        texts = [cells.ungrouped(each) for each in arrays[positions[name]].to_pylist()]
        arrays[positions[name]] = pa.array(texts, type=pa.large_string())
    _empty_words_for_nothing(arrays, positions, detection.format)
    index = pd.Index(kept)
    cleaned = {place: text_series(column, index) for place, column in arrays.items()}
    lacking = pd.Series("", index=index, dtype="str")
    columns: dict[str | int, pd.Series] = {
        name: cleaned[positions[name]] if name in positions else lacking
        for name in used
        if name in positions or name in as_they_are
    }
    return pd.DataFrame(columns | {place: cleaned[place] for place in surplus}, index=index)


def _empty_words_for_nothing(
    arrays: dict[int, pa.Array], positions: Mapping[str, int], cdr_format: CdrFormat
) -> None:
    """Empty the cells of words that programs write in place of nothing, in columns that may be empty.

    Nearly all cells are told in a tenth of the time: a time begins with its year, no such word with a digit but 0,
    and those of an id that have more than nine letters begin with a dash or 0.
    """
    call, origins = cdr_format.call, cdr_format.origins
    nothing = dict.fromkeys(
        (*cdr_format.origins_of_ids(), *cdr_format.columns_tested_for_emptiness()), cells.NO_ID
    )
    lone = [*(names[0] for names in call.id if len(names) == 1), *call.joins, *filter(None, [call.zohouser])]
    nothing |= {each: cells.NO_LONE_ID for name in lone for each in origins(name)}
    if call.answer_time:  # else it is attended
        no_time = cells.NO_DATE_TIME if len(cdr_format.time.columns) == 1 else cells.NO_TIME
        nothing |= dict.fromkeys(origins(call.answer_time), no_time)
    for name, words in nothing.items():
        if name not in positions:
            continue
        column = arrays[positions[name]]
        firsts, _, lengths = _edges(column)
        if words in (cells.NO_ID, cells.NO_LONE_ID):
            may_be = (firsts < ord("1")) | (firsts > 127) | ((firsts > ord("9")) & (lengths <= 9))
        else:
            may_be = ~np.asarray(pc.starts_with(column, "20").to_numpy(zero_copy_only=False), dtype=np.bool_)
        places = np.flatnonzero(may_be & (lengths > 0))
        is_word = np.zeros(len(column), dtype=np.bool_)
        is_word[places] = pc.match_substring_regex(column.take(pa.array(places)), f"^(?:{words})$")
        if is_word.any():
            arrays[positions[name]] = pc.if_else(pa.array(is_word), "", column)


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
    columns: Mapping[int, pa.Array], text: bytes, empty_words: Sequence[str]
) -> Iterator[tuple[int, pa.Array]]:
    """Yield numbered columns of Arrow text with each cell as `plain_cell` has it.

    ``empty_words`` become "".
    ``text`` in UTF-8 is what the columns were read from. Nearly always a glance at the first and last bytes of its
    cells shows that nothing is to be done.
    """
    has_marks = not text.isascii() and any(lead in text for lead in _LEADS)
    nothing = pa.array([*empty_words, *cells.NULLS], type=pa.large_string())
    longest = pc.max(pc.binary_length(nothing)).as_py()
    begins = np.isin(np.arange(256), [byte for word in nothing.to_pylist() for byte in word.encode()[:1]])
    for place, values in columns.items():
        if has_marks:
            values = pc.replace_substring_regex(values, pattern=cells.INVISIBLE.pattern, replacement="")
            values = pc.replace_substring_regex(values, pattern=cells.NO_BREAK_SPACES.pattern, replacement=" ")
        firsts, lasts, lengths = _edges(values)
        if (_MAY_BE_SPACE[firsts] | _MAY_BE_SPACE[lasts]).any():
            values = pc.utf8_trim_whitespace(values)
            firsts, _, lengths = _edges(values)
        for start, pattern in ((b"=", cells.FORCED.pattern), (b"'", cells.APOSTROPHE.pattern)):
            if (firsts == start[0]).any():
                values = pc.replace_substring_regex(values, pattern=f"^(?:{pattern})$", replacement=r"\1")
                values = pc.utf8_trim_whitespace(values)
                firsts, _, lengths = _edges(values)
        if (begins[firsts] & (lengths <= longest)).any():
            empty = pc.is_in(values, value_set=nothing)
            if pc.any(empty, min_count=0).as_py():  # rarely: sparing the copy takes a third off
                values = pc.if_else(empty, "", values)
        yield place, values


def _edges(texts: pa.Array) -> tuple[Bytes, Bytes, Ints]:
    """Return first and last byte of each text, of an empty one those beside it, and the lengths in bytes."""
    _, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(content or b"\0", dtype=np.uint8)
    return data.take(bounds[:-1], mode="clip"), data.take(bounds[1:] - 1, mode="clip"), np.diff(bounds)
