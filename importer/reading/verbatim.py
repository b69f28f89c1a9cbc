"""The records of a file exactly as they stand in it, for the file of rejected rows."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

import numpy as np

from importer.formats import Detection
from importer.reading.blocks import BLOCK_BYTES, record_blocks
from importer.reading.chunks import dialect_of
from importer.reading.scanning import scan

MARK = codecs.BOM_UTF8.decode("utf-8")


@dataclass(frozen=True, slots=True)
class Verbatim:
    """One record as text, without its line end, and the line it starts on."""

    line: int
    text: str


def verbatim_records(
    detection: Detection, lines: Sequence[int], *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Verbatim]:
    """Yield the header (if the file has one) and the records that start on these lines, in file order.

    The text is that of the file: line ends inside a record and quotes of whatever kind stay as they are.
    Raises InputUnusableError when the file changes while it is read, or is not the one that was pinned.
    """
    header = [] if detection.header_line is None else [detection.header_line]
    wanted = np.concatenate((np.asarray(lines, np.int64), np.array(header, np.int64)))
    wanted.sort()  # `union1d` would take some 80 bytes a line
    blocks = record_blocks(detection, block_bytes)
    next_line = first_line = detection.file.first_line
    with detection.file.open_text(detection.encoding) as source:
        for records in scan(blocks, dialect_of(detection), detection.file.shown, first_line):
            at = np.searchsorted(wanted[:-1], records.lines)  # `isin` would sort all lines anew for each block
            for index in np.flatnonzero(wanted[at] == records.lines) if len(wanted) else ():
                line = int(records.lines[index])
                length = records.text.count(b"\n", records.starts[index], records.ends[index]) + 1
                text = _lines(source, line - next_line, length)
                next_line = line + length
                yield Verbatim(line, text.removeprefix(MARK) if line == first_line else text)
    detection.file.open().close()


def _lines(source: TextIO, skipped: int, count: int) -> str:
    """Return the next lines behind those skipped, without the last line end."""
    text = "".join(islice(source, skipped, skipped + count))
    return text.removesuffix("\n").removesuffix("\r")
