"""Where a ledger may stand: on a disk of this machine, in a folder of its user, with nothing planted beside it.

In goes a path, out comes nothing, the text of a file beside the ledger, or the error. Must not know SQLite or what
is in the ledger.
"""

import re
from contextlib import suppress
from pathlib import Path

from importer.errors import ConfigurationError, LedgerError
from importer.private_files import check_folders, check_ours, replace_private_file

MOUNTS = Path("/proc/self/mountinfo")
"""The mounts as this process sees them: proc(5)."""

# flock(2) and SQLite's shared memory hold between the processes of one kernel only:
# https://www.sqlite.org/wal.html#overview ("WAL does not work over a network filesystem").
# 9p and virtiofs are not among them: they show a container, a virtual machine or WSL the disk of its own host,
# refusing them would refuse every ledger in such a place, and all runs there share the one kernel.
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"}) | {
    *("ceph", "glusterfs", "lustre", "gpfs", "gfs2", "ocfs2", "beegfs", "pvfs2", "orangefs"),
}
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.ntfs-3g", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.bindfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")
COMPANIONS = (".lock", "-wal", "-shm", "-journal", ".witness", ".witness.new", ".forgotten", ".forgotten.new")


def ledger_files(ledger: Path) -> list[Path]:
    """Return where a ledger is, or would be, and where the files that come and go beside it are."""
    path = ledger.resolve()
    return [path, *(path.with_name(path.name + ending) for ending in (".new", *COMPANIONS))]


def check_place(ledger: Path, mounts: str | None = None) -> None:
    """Raise `ConfigurationError` for a ledger on a network share, or that others can change or have put there.

    ``mounts`` is the text of a mountinfo file; without it that of this process counts, where there is one.
    """
    _check_file_system(ledger, _mounts() if mounts is None else mounts)
    check_files(ledger)


def check_files(ledger: Path) -> None:
    """Raise `ConfigurationError` if others can change the ledger, a file beside it or a folder above it."""
    # Names will do: where nobody else may change the folder they lead to these files when SQLite opens them. They
    # are not opened here, since closing one drops the locks that SQLite holds on it in this process (fcntl(2)).
    check_folders(ledger.parent)
    for ending in ("", *COMPANIONS):
        file = ledger.with_name(ledger.name + ending)
        with suppress(FileNotFoundError, NotADirectoryError):
            # A death while the ledger was made leaves it with its first name too.
            check_ours(file, file.lstat(), most_links=1 if ending else 2)


def read_companion(path: Path, most_bytes: int = -1) -> str | None:
    """Return the text of a small file beside a ledger whose place was checked, None where there is none.

    Raises `LedgerError` when the disk fails.
    """
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(
            f"cannot read {path}: {error.strerror}", hint="Look at the disk and the rights."
        ) from error


def replace_companion(path: Path, text: str) -> None:
    """Make a small file beside the ledger durable, mode 0600, in one step; `LedgerError` when the disk fails."""
    try:
        replace_private_file(path, text.encode())
    except OSError as error:
        raise LedgerError(
            f"cannot write {path}: {error.strerror}", hint="Look at the disk (space, mount, errors, rights)."
        ) from error


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds a path; empty when the mounts do not say."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        mount, separator, source = line.partition(" - ")
        fields, rest = mount.split(" "), source.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        depth = len(point.parts)
        # Of two mounts on one point the later one is seen.
        if path.is_relative_to(point) and depth >= best:
            best, kind = depth, rest[0]
    return kind


def _mounts() -> str:
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _check_file_system(ledger: Path, mounts: str) -> None:
    kind = file_system_of(ledger, mounts)
    if kind in _REMOTE or (kind.startswith("fuse") and kind not in _LOCAL_FUSE):
        raise ConfigurationError(
            f"the ledger {ledger} is on a file system of type {kind}: its locks do not hold between machines",
            hint="Keep the ledger on a disk of this machine and name it with --ledger.",
        )
