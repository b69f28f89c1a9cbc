"""One run per ledger: kernel locks that vanish with the process, so none is ever stale.

The text in the lock file is for people; it never decides anything. Free of what is in the ledger.
"""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from importer.errors import LedgerError, TryLaterError
from importer.ledger.beside import LOCK, companion
from importer.private_files import open_ours, why

_LONGEST_TEXT = 1000
_HOLDER = re.compile(r"pid=(\d{1,10}) since=([0-9T: Z-]{1,30})(?:$| run=)")


@dataclass(slots=True)
class LedgerLock:
    """The locks of one run, on the lock file and on the ledger itself, held until `release`."""

    _descriptors: list[int]

    def holds(self, ledger: Path) -> bool:
        """Return whether the file at the ledger's path still is the one that was locked."""
        try:
            there = ledger.lstat()
        except OSError:
            return False
        return os.path.samestat(os.fstat(self._descriptors[-1]), there)

    def release(self) -> None:
        """Give the locks back; the lock file stays.

        To be called after SQLite's connection is closed: closing a descriptor of the ledger drops the POSIX
        locks that SQLite holds on the same file (fcntl(2)).
        """
        while self._descriptors:
            os.close(self._descriptors.pop())


def take_lock(ledger: Path, *, run_id: str, since: str) -> LedgerLock:
    """Lock an existing ledger for this process, without waiting.

    The ledger file is locked too, because a deleted lock file lets a second run lock a new one. flock(2) is
    no obstacle to SQLite, which uses fcntl locks. Raises `TryLaterError` naming the holder when another
    run has it, `ConfigurationError` when others can change ledger or lock file, `LedgerError` when it cannot be
    locked at all.
    """
    lock = take_lock_file(ledger)
    try:
        lock._descriptors.append(_locked(ledger, os.O_RDONLY, ledger))
        os.ftruncate(lock._descriptors[0], 0)
        os.pwrite(lock._descriptors[0], f"pid={os.getpid()} since={since} run={run_id}\n".encode(), 0)
    except OSError as error:
        lock.release()
        raise LedgerError(
            f"cannot write {companion(ledger, LOCK)}: {why(error, ledger)}",
            hint="Look at the disk (space, mount, errors, rights); nothing was sent.",
        ) from error
    except BaseException:
        lock.release()
        raise
    return lock


def take_lock_file(ledger: Path) -> LedgerLock:
    """Lock only the lock file, for a ledger that is still to be made; raises as `take_lock` does."""
    path = companion(ledger, LOCK)
    descriptor = _locked(path, os.O_RDWR | os.O_CREAT, ledger)
    lock = LedgerLock([descriptor])
    if not lock.holds(path):
        lock.release()
        raise TryLaterError(f"the lock file {path} was replaced while it was locked", hint="Run again.")
    return lock


def share_lock(ledger: Path) -> LedgerLock | None:
    """Keep runs off a ledger while it is read, writing nothing; None when one has it already or it cannot be."""
    lock = LedgerLock([])
    try:
        lock._descriptors.append(os.open(ledger, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        fcntl.flock(lock._descriptors[0], fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        lock.release()
        return None
    return lock


def _locked(path: Path, flags: int, ledger: Path) -> int:
    try:
        # A death while the ledger was made leaves it with its first name too.
        descriptor = open_ours(path, flags, most_links=2 if path == ledger else 1)
    except OSError as error:
        raise LedgerError(
            f"cannot open {path} for locking: {why(error, path)}",
            hint="The ledger's folder must be writable for the user who runs this.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _HOLDER.match(os.pread(descriptor, _LONGEST_TEXT, 0).decode("ascii", "replace"))
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            shown = f" (pid {holder[1]}, since {holder[2].strip()} GMT)" if holder else ""
            raise TryLaterError(
                f"another run{shown} holds the ledger {ledger}",
                hint="Wait until it has ended, then run again; nothing was sent.",
            ) from error
        raise LedgerError(
            f"cannot lock {ledger}: {error.strerror}",
            hint="Keep the ledger on a local disk: locks are not reliable on network shares.",
        ) from error
    return descriptor
