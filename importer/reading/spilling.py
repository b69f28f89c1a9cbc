"""Rows whose cells are too many because one of them holds delimiters that nothing quotes."""

import csv
import io
from dataclasses import replace

import numpy as np

from importer.formats import Detection, Quotes
from importer.formats.cells import cell_reader
from importer.formats.sample import spilled
from importer.reading.scanning import Records


def without_spill(records: Records, detection: Detection, longest_bytes: int) -> Records:
    """Return the records with surplus cells joined into the cell that the format lets spill.

    Records that are broken or longer than ``longest_bytes`` stay as they are.
    """
    too_many = (records.cells > detection.field_count) & ~records.broken
    too_many &= records.ends - records.starts <= longest_bytes
    if detection.spill is None or not too_many.any():
        return records
    spans = zip(records.starts.tolist(), records.ends.tolist(), too_many.tolist(), strict=True)
    parts = [
        _joined(records.text[start:end], detection) if spills else records.text[start:end]
        for start, end, spills in spans
    ]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    ends = np.cumsum(lengths + 1) - 1
    cells = np.where(too_many, detection.field_count, records.cells)
    text = b"\n".join(parts) + b"\n"
    return replace(records, text=text, starts=ends - lengths, ends=ends, cells=cells)


def _joined(record: bytes, detection: Detection) -> bytes:
    text = record.decode("utf-8")
    source = io.StringIO(text, newline="")
    skip = detection.format.file.skip_initial_space
    cells = next(cell_reader(source, detection.delimiter, detection.quotes, skip_initial_space=skip))
    kept = spilled(cells, detection.field_count, detection.spill)
    if detection.quotes is Quotes.NONE:
        return detection.delimiter.join(kept).encode("utf-8")
    target = io.StringIO(newline="")
    escape = "\\" if detection.quotes is Quotes.BACKSLASH else None
    csv.writer(
        target, delimiter=detection.delimiter, lineterminator="", doublequote=escape is None, escapechar=escape
    ).writerow(kept)
    return target.getvalue().encode("utf-8")
