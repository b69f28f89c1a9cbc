"""The records of a file exactly as they stand in it, for the file of rejected rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from importer.formats import Detection
from importer.reading.blocks import text_blocks
from importer.reading.chunks import dialect_of
from importer.reading.scanning import scan


@dataclass(frozen=True, slots=True)
class Verbatim:
    """One record as text, without its line end, and the line it starts on."""

    line: int
    text: str


def verbatim_records(detection: Detection, lines: frozenset[int]) -> Iterator[Verbatim]:
    """Yield the header (if the file has one) and the records that start on these lines, in file order."""
    wanted = np.array(sorted({*lines, *([detection.header_line] if detection.header_line else [])}))
    blocks = text_blocks(detection.path, detection.encoding)
    for records in scan(blocks, dialect_of(detection), detection.path.name):
        for index in np.flatnonzero(np.isin(records.lines, wanted)):
            yield Verbatim(int(records.lines[index]), records.record(int(index)))
