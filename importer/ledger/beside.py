"""The ledger's place, and the files beside it without which a call could be sent twice.

A ledger stands on a disk of this machine, in a folder of its user, with nothing planted beside it. The generation
file shows when the ledger is older than the last run that used it. The decisions of people outlive a backup put in
the ledger's place. The ``-wal`` file is kept long enough for answers that come when the disk is full. The locks
let one run in. They are the kernel's and vanish with the process, so none is ever stale. Free of SQLite.
"""

import fcntl
import hmac
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from importer import private_files
from importer.errors import ConfigurationError, LedgerError, TryLaterError

COMMITS_PER_TURN = 128
"""Commits after which the ``-wal`` file is begun anew."""

# flock(2) and SQLite's shared memory hold between the processes of one kernel only:
# https://www.sqlite.org/wal.html#overview ("WAL does not work over a network filesystem").
# 9p and virtiofs are not among them: they show a container, a virtual machine or WSL the disk of its own host,
# refusing them would refuse every ledger in such a place, and all runs there share the one kernel.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"}) | {
    *("ceph", "glusterfs", "lustre", "gpfs", "gfs2", "ocfs2", "beegfs", "pvfs2", "orangefs")
}
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.ntfs-3g", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.bindfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")
LOCK, WAL, GENERATION, FORGOTTEN, BACKED_UP = ".lock", "-wal", ".witness", ".forgotten", ".backed-up"
"""Endings: the lock file, SQLite's commits that are not in the ledger's file yet, and the files of our own."""

_REPLACED = (GENERATION, FORGOTTEN, BACKED_UP)
COMPANIONS = (LOCK, WAL, "-shm", "-journal", *_REPLACED, *(f"{ending}.new" for ending in _REPLACED))

# A commit of `settle` writes up to 9 pages (measured: 4.3 on average with a million calls); a frame is a page
# and 24 bytes: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
_PAGES_PER_COMMIT = 9
_FRAME_BYTES = 4096 + 24
_COMMITS_IN_FLIGHT = 128
RESERVE_BYTES = 32 + (COMMITS_PER_TURN + _COMMITS_IN_FLIGHT) * _PAGES_PER_COMMIT * _FRAME_BYTES

_GENERATION_TEXT = re.compile(r"generation=(\d{1,18})\n(?:closed=(\d+ \d+ \d+)\n)?")
_LONGEST_TEXT = 1000
_HOLDER = re.compile(r"pid=(\d{1,10}) since=([0-9T: Z-]{1,30})(?:$| run=)")
_DECISION_LINE = re.compile(r"(\S+) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|pending|uncertain|accepted|closed)")
_DISK_HINT = "Look at the disk (space, mount, errors, rights)."
RESTORED_HINT = (
    "Calls that were sent since then would be sent again. Say what was sent since, with the results files: "
    "cdr-importer ledger accept-restore RESULTS.csv ..."
)


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation file's content: ``number`` is None when there is no file, ``readable`` False for junk."""

    number: int | None
    readable: bool = True
    closed: str | None = None
    """The `file_mark` of the ledger as the last run left it, None unless that run closed it."""


def ledger_files(ledger: Path) -> list[Path]:
    """Return where a ledger is, or would be, and where the files that come and go beside it are."""
    path = Path(os.path.realpath(ledger))
    return [path, *(companion(path, ending) for ending in (".new", *COMPANIONS))]


def companion(ledger: Path, ending: str) -> Path:
    """Return where a file beside a ledger is, by the ending of its name."""
    return ledger.with_name(ledger.name + ending)


def has_wal(ledger: Path) -> bool:
    """Return whether SQLite keeps commits there, or may."""
    return companion(ledger, WAL).exists() and companion(ledger, WAL).stat().st_size > 0


def check_place(ledger: Path, mounts: str | None = None) -> None:
    """Raise `ConfigurationError` for a ledger on a network share, or that others can change or have put there."""
    if mounts is None:
        with suppress(OSError):
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")  # proc(5)
    best, kind = -1, ""
    for line in (mounts or "").splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        # Of two mounts on one point the later one is seen.
        if ledger.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), source.split(" ")[0]
    if kind in _REMOTE or (kind.startswith("fuse") and kind not in _LOCAL_FUSE):
        raise ConfigurationError(
            f"the ledger {ledger} is on a file system of type {kind}: its locks do not hold between machines",
            hint="Keep the ledger on a disk of this machine and name it with --ledger.",
        )
    check_files(ledger)


def check_files(ledger: Path) -> None:
    """Raise `ConfigurationError` if others can change the ledger, a file beside it or a folder above it."""
    # Names will do: where nobody else may change the folder they lead to these files when SQLite opens them. They
    # are not opened here, since closing one drops the locks that SQLite holds on it in this process (fcntl(2)).
    # The ledger comes first: whose it is says more than whose its folder is.
    for ending in ("", *COMPANIONS):
        file = companion(ledger, ending)
        with suppress(FileNotFoundError, NotADirectoryError):
            # A death while the ledger was made leaves it with its first name too.
            private_files.check_ours(file, file.lstat(), most_links=1 if ending else 2)
    with suppress(OSError), private_files.proved_folder(ledger.parent):  # whatever is opened in it fails likewise
        pass


def file_mark(ledger: Path) -> str:
    """Return what any write to the ledger's file changes, and any copy or replacement of it."""
    found = ledger.stat()
    return f"{found.st_ino} {found.st_size} {found.st_ctime_ns}"


def read_generation(ledger: Path) -> Generation:
    """Read the generation file of a ledger whose place was checked; raises `LedgerError` when the disk fails."""
    text = _read(companion(ledger, GENERATION), most_bytes=128)
    if text is None:
        return Generation(None)
    found = _GENERATION_TEXT.fullmatch(text)
    return Generation(int(found[1]), closed=found[2]) if found else Generation(None, readable=False)


def write_generation(ledger: Path, generation: int, closed: str = "") -> None:
    """Make the generation durable; ``closed`` is the `file_mark` of a ledger's file that is whole and synced."""
    _replace(
        companion(ledger, GENERATION), f"generation={generation}\n" + (f"closed={closed}\n" if closed else "")
    )


def hashed(number: str, key: bytes) -> str:
    """Return a number's keyed hash: a plain one is undone by trying all numbers. Backups share the key."""
    return hmac.digest(key, b"forgotten " + number.encode(), "sha256").hex()[:32]


def read_decisions(ledger: Path) -> dict[str, str]:
    """Return the decisions of people that a backup may lack; raises `ConfigurationError` for damage.

    Under the hash of a number this is when it was last forgotten (GMT text); under the id of a call the state that
    the last decision gave it.
    """
    path = companion(ledger, FORGOTTEN)
    found = [_DECISION_LINE.fullmatch(line) for line in (_read(path) or "").splitlines()]
    if None in found:
        raise ConfigurationError(
            f"{path} is damaged, so nobody knows which numbers were forgotten and which calls settled",
            hint="Put an earlier copy of it back; or move it away and forget those numbers again first of all.",
        )
    return {match[1]: match[2] for match in found if match}


def keep_decisions(ledger: Path, decisions: Mapping[str, str]) -> None:
    """Make decisions of a person durable, in place of earlier ones about the same; raises as `read_decisions`.

    To be called before the ledger's commit. A death in between leaves a decision that the ledger lacks: the call
    is uncertain there, and the next decision replaces that one. In the other order a ledger restored later would
    lack a decision on which its person relies, and might send the call.
    """
    kept = {**read_decisions(ledger), **decisions}
    _replace(companion(ledger, FORGOTTEN), "".join(f"{what} {word}\n" for what, word in kept.items()))


def check_wal(ledger: Path, *, discard: bool = False) -> None:
    """Raise `ConfigurationError`, or ``discard`` it, for a ``-wal`` file that an earlier ledger left to a backup.

    SQLite would mix the two. A backup is not in WAL mode, as its header says, until it is accepted, and only then
    gets a ``-wal`` file of its own. To be called before SQLite has the ledger open in this process: closing it
    drops the locks on it (fcntl(2)). Raises `LedgerError` when the disk fails.
    """
    what = f"cannot read the ledger {ledger}, or take away an earlier -wal file"
    with private_files.os_errors_as(LedgerError, what, ledger, _DISK_HINT), suppress(FileNotFoundError):
        if not companion(ledger, WAL).stat().st_size:
            return
        with ledger.open("rb") as file:
            # https://www.sqlite.org/fileformat2.html#file_format_version_numbers
            is_backup = file.read(20)[18:] == b"\x01\x01"
        if is_backup and not discard:
            raise ConfigurationError(f"the ledger {ledger} was restored from a backup", hint=RESTORED_HINT)
        if is_backup:
            companion(ledger, WAL).unlink()
            private_files.sync_folder(ledger.parent)


@dataclass(slots=True)
class LedgerLock:
    """The locks of one run, on the lock file and on the ledger itself, held until `release`."""

    descriptors: list[int]

    def holds(self, ledger: Path) -> bool:
        """Return whether the file at the ledger's path still is the one that was locked."""
        try:
            there = ledger.lstat()
        except OSError:
            return False
        return os.path.samestat(os.fstat(self.descriptors[-1]), there)

    def release(self) -> None:
        """Give the locks back, after SQLite's connection is closed; the lock file stays."""
        # Closing a descriptor of the ledger drops the POSIX locks that SQLite holds on the same file (fcntl(2)).
        while self.descriptors:
            os.close(self.descriptors.pop())


def take_lock(ledger: Path, text: str | None = None) -> LedgerLock:
    """Lock a ledger for this process, without waiting; without ``text`` it is still to be made.

    The text goes into the lock file, for people only: it decides nothing. The ledger file is locked too, because a
    deleted lock file lets a second run lock a new one. flock(2) is no obstacle to SQLite, which uses fcntl locks.
    Raises `TryLaterError` naming the holder when another run has it, `ConfigurationError` when others can change
    ledger or lock file, `LedgerError` when it cannot be locked at all.
    """
    path = companion(ledger, LOCK)
    lock = LedgerLock([_locked(path, os.O_RDWR | os.O_CREAT, ledger)])
    with ExitStack() as undo, private_files.os_errors_as(LedgerError, f"cannot write {path}", ledger, _DISK_HINT):
        undo.callback(lock.release)
        if not lock.holds(path):
            raise TryLaterError(f"the lock file {path} was replaced while it was locked", hint="Run again.")
        if text is not None:
            lock.descriptors.append(_locked(ledger, os.O_RDONLY, ledger))
            os.ftruncate(lock.descriptors[0], 0)
            os.pwrite(lock.descriptors[0], f"pid={os.getpid()} {text}\n".encode(), 0)
        undo.pop_all()
    return lock


def share_lock(ledger: Path) -> LedgerLock | None:
    """Keep runs off a ledger while it is read, writing nothing; None when one has it already or it cannot be."""
    lock = LedgerLock([])
    try:
        lock.descriptors.append(os.open(ledger, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        fcntl.flock(lock.descriptors[0], fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        lock.release()
        return None
    return lock


def _locked(path: Path, flags: int, ledger: Path) -> int:
    hint = "The ledger's folder must be writable for the user who runs this."
    with private_files.os_errors_as(LedgerError, f"cannot open {path} for locking", path, hint):
        # A death while the ledger was made leaves it with its first name too.
        descriptor = private_files.open_ours(path, flags, most_links=2 if path == ledger else 1)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _HOLDER.match(os.pread(descriptor, _LONGEST_TEXT, 0).decode("ascii", "replace"))
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            shown = f" (pid {holder[1]}, since {holder[2].strip()} GMT)" if holder else ""
            raise TryLaterError(
                f"another run{shown} holds the ledger {ledger}",
                hint="Run again when it has ended, or wait for that with --lock-wait 1h; nothing was done.",
            ) from error
        raise LedgerError(
            f"cannot lock {ledger}: {error.strerror}",
            hint="Keep the ledger on a local disk: locks are not reliable on network shares.",
        ) from error
    return descriptor


def _read(path: Path, most_bytes: int = -1) -> str | None:
    """Return the text of a small file beside a ledger whose place was checked, None where there is none."""
    reading = private_files.os_errors_as(LedgerError, f"cannot read {path}", path, _DISK_HINT)
    with reading, suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(most_bytes).decode("ascii", "replace")
    return None


def _replace(path: Path, text: str) -> None:
    with private_files.os_errors_as(LedgerError, f"cannot write {path}", path, _DISK_HINT):
        private_files.replace_private_file(path, text.encode())
