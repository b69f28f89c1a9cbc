"""One run per ledger: kernel locks that vanish with the process, so none is ever stale.

The text in the lock file is for people; it never decides anything. Must not know what is in the ledger.
"""

import fcntl
import os
import re
import stat
from pathlib import Path

from importer.errors import LedgerError, TryLaterError

_LONGEST_TEXT = 1000
_HOLDER = re.compile(r"pid=(\d{1,10}) since=([0-9T: Z-]{1,30})(?:$| run=)")


class LedgerLock:
    """The locks of one run, on the lock file and on the ledger itself, held until `release`."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    def holds(self, ledger: Path) -> bool:
        """Say whether the file at the ledger's path still is the one that was locked."""
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


def lock_path(ledger: Path) -> Path:
    """Return where the lock file of a ledger is."""
    return ledger.with_name(ledger.name + ".lock")


def take_lock(ledger: Path, *, run_id: str, since: str) -> LedgerLock:
    """Lock an existing ledger for this process, without waiting.

    The ledger file is locked too, because a deleted lock file lets a second run lock a new one. flock(2) is
    no obstacle to SQLite, which uses fcntl locks. Raises `TryLaterError` naming the holder when another
    run has it, `LedgerError` when it cannot be locked at all.
    """
    lock = take_lock_file(ledger)
    try:
        lock._descriptors.append(_locked(ledger, os.O_RDONLY, ledger))
    except BaseException:
        lock.release()
        raise
    text = f"pid={os.getpid()} since={since} run={run_id}\n".encode()
    os.ftruncate(lock._descriptors[0], 0)
    os.pwrite(lock._descriptors[0], text, 0)
    return lock


def take_lock_file(ledger: Path) -> LedgerLock:
    """Lock only the lock file, for a ledger that is still to be made; raises as `take_lock` does."""
    path = lock_path(ledger)
    descriptor = _locked(path, os.O_RDWR | os.O_CREAT, ledger)
    lock = LedgerLock([descriptor])
    if not _is_at(descriptor, path):
        lock.release()
        raise TryLaterError(f"the lock file {path} was replaced while it was locked", hint="Run again.")
    os.fchmod(descriptor, 0o600)
    return lock


def _locked(path: Path, flags: int, ledger: Path) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(
            f"cannot open {path} for locking: {error.strerror}",
            hint="The ledger's folder must be writable for the user who runs this.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise _refusal(error, ledger) from error
    return descriptor


def _refusal(error: OSError, ledger: Path) -> TryLaterError | LedgerError:
    if isinstance(error, BlockingIOError):
        return TryLaterError(
            f"another run{_holder(ledger)} holds the ledger {ledger}",
            hint="Wait until it has ended, then run again; nothing was sent.",
        )
    return LedgerError(
        f"cannot lock {ledger}: {error.strerror}",
        hint="Keep the ledger on a local disk: locks are not reliable on network shares.",
    )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there) and stat.S_ISREG(there.st_mode)


def _holder(ledger: Path) -> str:
    try:
        with lock_path(ledger).open("rb") as file:
            text = file.read(_LONGEST_TEXT).decode("ascii", "replace")
    except OSError:
        return ""
    found = _HOLDER.match(text)
    return f" (pid {found[1]}, since {found[2].strip()})" if found else ""
