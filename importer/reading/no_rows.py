"""Which records of a file are no rows: the header again, totals, titles, and what database clients print."""

import io
import re

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from importer.errors import InputUnusableError
from importer.formats import headers
from importer.formats.catalogue import load_catalogue
from importer.formats.cells import cell_reader, plain_cell
from importer.formats.detected import Detection
from importer.formats.sample import TOTALS_BEGIN, column_key, is_printed, is_total
from importer.reading.conditions import Flags, arrow_of, matches
from importer.reading.scanning import QUOTE, SPACE, Records

MOST_FILLER = 256
"""So many quotes, blanks and delimiters are passed over before the first letter, as in `|   calldate`."""
LONGEST_WORD = 80
"""So many bytes of a first word are looked at."""
LONGEST_BYTES = 16 * 1024
"""A record that is longer is none of these."""


class NoRows:
    """The records of a detected file that are no rows, found by their first two letters, or by too few cells."""

    def __init__(self, detection: Detection) -> None:
        self._detection, spec = detection, detection.format
        spellings = [text for texts in {**spec.columns, **spec.optional_columns}.values() for text in texts]
        names = {*detection.header, *spellings, *detection.positions} - {""}
        # For the first two bytes of a record (the second times 256) whether its first word is looked at.
        self._suspect = np.zeros(1 << 16, dtype=np.bool_)
        rules = ("--", "==", "-+", "+-", "-" + detection.dialect.delimiter)
        for word in (*TOTALS_BEGIN, *detection.titles, *names, *rules):
            for text in (word.strip(), word.strip().upper(), word.strip().lower(), word.strip().title()):
                first, second = (text.encode() + b"  ")[:2]
                self._suspect[[first | second << 8] if len(text) > 1 else first | np.arange(256) << 8] = True
        self._words = set(filter(None, map(column_key, names)))  # that a header may begin with
        self._needed = headers.call_places(spec, detection.positions)

    def among(self, records: Records) -> Flags:
        """Return for each record whether it is no row.

        Raises InputUnusableError where a header stands again with other columns, or with them in another order.
        """
        found = np.zeros(len(records), dtype=np.bool_)
        if not len(records) or len(records.text) < 2:
            return found
        detection, data = self._detection, np.frombuffer(records.text, dtype=np.uint8)
        delimiter = ord(detection.dialect.delimiter)
        # The first word stands behind quotes, blanks and the frame of a table.
        filler = np.zeros(256, dtype=np.bool_)
        filler[[QUOTE, SPACE]] = True
        filler[delimiter] = detection.header[:1] == ("",)
        places = np.minimum(records.starts, len(data) - 1)
        on = np.flatnonzero(filler[data[places]])
        for _ in range(MOST_FILLER):
            if not len(on):
                break
            places[on] = np.minimum(places[on] + 1, len(data) - 1)
            on = on[filler[data[places[on]]]]
        letters = data[places] | data[np.minimum(places + 1, len(data) - 1)].astype(np.uint16) << 8
        width, columns = detection.field_count, len(detection.format.columns)
        are_few = records.cells < width
        are_many = (records.cells >= width + columns - 1) & (columns > 1)
        # A spreadsheet fills a client's line up to the width of the table: `(13 rows),,,,`.
        are_filled_up = (data[records.ends - 1] == delimiter) & (data[records.ends - 2] == delimiter)
        are_filled_up &= records.ends - records.starts <= records.cells + LONGEST_WORD
        are_odd = are_few | are_many | are_filled_up
        may_begin: dict[bytes, bool] = {}
        for index in np.flatnonzero(self._suspect[letters] | are_odd).tolist():
            start, end, place = int(records.starts[index]), int(records.ends[index]), int(places[index])
            word = records.text[place : place + LONGEST_WORD].split(b"\n", 1)[0].split(b'"', 1)[0]
            word = word.split(detection.dialect.delimiter.encode(), 1)[0]
            if word not in may_begin:  # whether a record of enough cells is looked at whole
                text = word.decode("utf-8", "replace")
                is_known = column_key(text) in self._words or headers.title_key([text]) in detection.titles
                may_begin[word] = text[:1] in ("-", "+", "=") or is_known or is_total([text])
            if end - start <= LONGEST_BYTES and (may_begin[word] or are_odd[index]):
                found[index] = self._is_no_row(records.text[start:end].decode("utf-8"), int(records.lines[index]))
        return found

    def _is_no_row(self, record: str, line: int) -> bool:
        detection = self._detection
        cells = next(cell_reader(io.StringIO(record, newline=""), detection.dialect), [])
        if is_printed(cells, detection.dialect.delimiter):
            return True
        glued = [column_key(cell) for cell in cells[detection.field_count :]]
        again = headers.header_positions(cells, detection.format, detection.positions)
        if sum(key in self._words for key in glued) > max(len(detection.format.columns) - 2, 1):
            # The first file had no line end: this is its last row, and behind it the header again.
            is_same, is_no_row = glued == [column_key(cell) for cell in detection.header[1:]], False
        elif again:
            used = [name for name in detection.format.used_columns() if name in {**again, **detection.positions}]
            if not detection.header:  # the other program may name some columns differently
                used = [name for name in used if name in again]
            width = len(headers.without_empty_tail(detection.header)) or detection.field_count
            is_as_wide = detection.open_end or len(headers.without_empty_tail(cells)) == width
            is_same = is_as_wide and all(again.get(name) == detection.positions.get(name) for name in used)
            is_no_row = True
        else:
            # Without time and number it could never be a call: nothing is lost with it.
            is_word = is_total(cells) or (headers.title_key(cells) in detection.titles)
            needed = [cells[place] for place in self._needed if place < len(cells)]
            is_same, is_no_row = True, is_word and bool(self._needed) and not any(map(plain_cell, needed))
        if not is_same:
            raise InputUnusableError(
                f"{detection.file.shown}: line {line}: a header stands here again, with other columns than the "
                "first or with them in another order",
                hint=headers.TWO_LAYOUTS,
            )
        return is_no_row


def require_one_system(frame: pd.DataFrame, records: Records, detection: Detection) -> None:
    """Raise InputUnusableError where a row names the columns of another system, whose rows follow.

    ``frame`` has the rows by their number in ``records``. The first row may show the names in another language.
    """
    for name in {*detection.format.origins(detection.format.time.columns[0])} & {*frame.columns}:
        begin_with_letter = np.flatnonzero(pc.greater_equal(arrow_of(frame[name]), ":"))
        without_digit = ~matches(frame[name].iloc[begin_with_letter], ".*[0-9].*")
        for index in frame.index[begin_with_letter[without_digit]]:
            text = records.text[records.starts[index] : records.ends[index]].decode("utf-8")
            line = int(records.lines[index])
            if line == detection.last_line_above + 1 or re.search(r"\d", text):
                continue
            cells, formats = next(cell_reader(io.StringIO(text), detection.dialect), []), load_catalogue().formats
            if other := headers.format_of_header(cells, formats.values()):
                raise InputUnusableError(
                    f"{detection.file.shown}: line {line}: the header of {other} stands here",
                    hint=headers.TWO_LAYOUTS,
                )
