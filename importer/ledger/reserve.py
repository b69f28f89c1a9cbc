"""Room on the disk, taken at the start of a run, for the outcomes of calls that are answered when it is full.

In goes a ledger, out comes a ``-wal`` file long enough. Must not know what is written to it.
"""

import os
from pathlib import Path

from importer.errors import LedgerError
from importer.private_files import open_ours

COMMITS_PER_TURN = 128
"""Commits after which the ``-wal`` file is begun anew."""

# A commit of `settle` writes up to 9 pages (measured: 4.3 on average with a million calls); a frame is a page
# and 24 bytes: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
_PAGES_PER_COMMIT = 9
_FRAME_BYTES = 4096 + 24
_COMMITS_IN_FLIGHT = 128
RESERVE_BYTES = 32 + (COMMITS_PER_TURN + _COMMITS_IN_FLIGHT) * _PAGES_PER_COMMIT * _FRAME_BYTES


def wal_path(ledger: Path) -> Path:
    """Return where SQLite keeps the commits that are not in the ledger's file yet."""
    return ledger.with_name(ledger.name + "-wal")


def extend_wal(ledger: Path) -> os.stat_result:
    """Lengthen the ``-wal`` file to the reserve, and return what it is; it must exist.

    The new bytes are zero, which no valid frame is, so SQLite reads none of them. SQLite takes no fcntl lock
    on this file, so that closing a descriptor of it frees none. Raises `LedgerError` when the disk is full,
    `ConfigurationError` when the file is not ours.
    """
    try:
        descriptor = open_ours(wal_path(ledger), os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(
            f"cannot keep {RESERVE_BYTES >> 20} MiB in reserve beside the ledger {ledger}: {error.strerror}",
            hint="Free some space on its disk: answers must find room even when it is full.",
        ) from error
