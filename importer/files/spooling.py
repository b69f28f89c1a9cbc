"""Bytes that come only once, in a nameless temporary file: private, and gone with its last reader.

A packed export is unpacked into such a file and not anew for each reader: an export is read three times
(encoding, rows, the rejected rows verbatim), standard input comes once, and each reader must get the same bytes.
Memory stays flat: blocks of a megabyte. The file has no name from the start: no other user can open it, and a
kill does not leave the telephone numbers in it behind (POSIX: mode 0600, unlinked; it is in `TMPDIR`).
"""

import csv
import io
import os
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from importer.errors import CannotCreateError, InputUnusableError

BLOCK_BYTES = 1 << 20
LINE_BREAKS = re.compile(r"[\r\n]+")


LARGEST_BYTES = 4 << 30
"""So much of one file is spooled."""
FREE_BYTES, MOST_TIMES = 64 << 20, 250
"""A packed file that comes to more than so many bytes may also hold at most so many times its own size: exports
shrink to a tenth or a fiftieth, a hostile file to a thousandth and less."""


def most_unpacked(packed_bytes: int, largest_bytes: int = LARGEST_BYTES) -> int:
    """Return how many bytes may come out of a packed file of this size."""
    return min(largest_bytes, max(FREE_BYTES, MOST_TIMES * packed_bytes))


def spooled(blocks: Iterator[bytes], shown: str, most_bytes: int = LARGEST_BYTES) -> io.FileIO:
    """Return a nameless temporary file of all blocks; the last that reads it gives the space back.

    Raises InputUnusableError beyond ``most_bytes``, CannotCreateError when they cannot be written, and the errors
    of ``blocks``.
    """
    with temporary_writes(), tempfile.TemporaryFile(prefix="cdr-importer-") as file:
        spool = io.FileIO(os.dup(file.fileno()), "r+", closefd=False)
    weakref.finalize(spool, os.close, spool.fileno())
    size = 0
    for block in blocks:
        size += len(block)
        if size > most_bytes:
            raise InputUnusableError(
                f"{shown} comes to more than {most_bytes >> 20} MB",
                hint="If that is really an export, unpack it on a disk with room and import the plain file.",
            )
        left = memoryview(block)
        with temporary_writes():
            while left:
                left = left[spool.write(left) :]
    return spool


def csv_blocks(rows: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Yield rows as comma-separated UTF-8 text (RFC 4180, LF), one line each, in blocks of about a megabyte.

    Line breaks inside cells become spaces: a line of the text is a row of the sheet, or the line of an object.
    A row without cells is a blank line.
    """
    target = io.StringIO(newline="")
    writer = csv.writer(target, lineterminator="\n")
    for row in rows:
        if target.tell() >= BLOCK_BYTES:
            yield target.getvalue().encode("utf-8", "replace")
            target.seek(0)
            target.truncate()
        writer.writerow([LINE_BREAKS.sub(" ", cell) if "\n" in cell or "\r" in cell else cell for cell in row])
    yield target.getvalue().encode("utf-8", "replace")


@contextmanager
def temporary_writes() -> Iterator[None]:
    """Raise CannotCreateError for an OSError inside, where files in `TMPDIR` are written."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the folder for temporary files"  # not found where none can be written to
        raise CannotCreateError(
            f"a temporary file cannot be written: {error.strerror}",
            hint=f"Free space in {folder}, or name another folder in TMPDIR. Nothing was sent.",
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder in `TMPDIR` that only we may read; raises CannotCreateError."""
    with temporary_writes():
        made = tempfile.TemporaryDirectory(prefix="cdr-importer-")
    with made as folder:
        yield Path(folder)
