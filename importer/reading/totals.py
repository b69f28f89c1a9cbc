"""Lines of totals, which reports and spreadsheets write among or below the rows and which are no rows."""

import csv
import io
import re
from typing import Literal

import numpy as np

from importer.formats import Detection, Quotes
from importer.formats.cells import plain_cell
from importer.reading.conditions import Flags
from importer.reading.scanning import QUOTE, Records

TOTALS = re.compile(
    r"(?:grand[ -]?|sub[ -]?)?totals?(?: calls| général| general| geral)?|(?:gesamt)?summe|(?:ins)?gesamt|"
    r"som(?:me|a)|suma|totale|totaal|totalt|sum",
    re.IGNORECASE,
)
_BEGINNINGS = np.array([word[0] | word[1] << 8 for word in (b"to", b"gr", b"su", b"ge", b"in", b"so")])
_LOWER = 0x2020


def totals_among(records: Records, detection: Detection) -> Flags:
    """Say which records are totals: the word stands in the first cell, and there is neither a time nor a number.

    Such a line could never be a call, so nothing is lost with it. Two letters settle nearly all records.
    """
    found = np.zeros(len(records), dtype=np.bool_)
    data = np.frombuffer(records.text, dtype=np.uint8)
    if not len(records) or len(data) < 4:
        return found
    places = np.minimum(records.starts, len(data) - 3)
    places = places + (data[places] == QUOTE)
    letters = (data[places].astype(np.int64) | data[places + 1].astype(np.int64) << 8) | _LOWER
    needed = _places_of_a_call(detection)
    for index in np.flatnonzero(np.isin(letters, _BEGINNINGS)).tolist():
        record = records.text[records.starts[index] : records.ends[index]]
        found[index] = _is_total(record, detection, needed)
    return found


def _places_of_a_call(detection: Detection) -> list[int]:
    """Return where start time and customer stand, but for the first cell: there the word itself may stand."""
    spec = detection.format
    names = {origin for name in (*spec.time.columns, spec.call.customer) for origin in spec.origins(name)}
    return [place for name, place in detection.positions.items() if name in names and place > 0]


def _is_total(record: bytes, detection: Detection, needed: list[int]) -> bool:
    word = re.split(rb'[^ \w"\x80-\xff-]', record, maxsplit=1)[0].strip(b' "')
    if not needed or not TOTALS.fullmatch(word.decode("utf-8", "replace")):
        return False
    quoting: Literal[0, 3] = 3 if detection.quotes is Quotes.NONE else 0
    source = io.StringIO(record.decode("utf-8", "replace"), newline="")
    cells = next(csv.reader(source, delimiter=detection.delimiter, quoting=quoting), [])
    if not TOTALS.fullmatch(plain_cell(cells[0] if cells else "").rstrip(":").strip()):
        return False
    return not any(plain_cell(cells[place]) for place in needed if place < len(cells))
