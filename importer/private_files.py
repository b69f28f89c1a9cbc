"""Files of this user: how they are made, read, replaced and synced, and the proof that others cannot change them.

The proof looks at open files and folders: what a name leads to may change after it was looked at. Files that the
operator names and that are read whole (a configuration, a format) are bounded here too.
"""

import errno
import fcntl
import grp
import os
import pwd
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from importer.errors import CannotCreateError, ConfigurationError, ImporterError

LONGEST_NAME_BYTES = 255
SMALL_BYTES = 1 << 20
"""How large a file may be that is read whole, where nothing else is said."""

# O_PATH (Linux) needs no right to list a folder: /home is often mode 0711.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_SAFE_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BY_OTHERS = {stat.S_IWGRP: "g-w", stat.S_IWOTH: "o-w", stat.S_IWGRP | stat.S_IWOTH: "go-w"}
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How file systems without hard links answer: link(2)."""

_FIRST_USER_GROUP = 1000
"""Groups below are the system's own: login.defs(5), GID_MIN."""


def open_new(path: Path) -> BinaryIO:
    """Make a file of mode 0600 whatever the umask and open it for writing; raises OSError if anything is there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def make_private_file(path: Path, content: bytes = b"") -> None:
    """Make a file as `open_new` does, with this content, and sync it; raises OSError."""
    with open_new(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: Path, text: str, *, with_folder: bool = False) -> None:
    """Write a file that is not there yet, mode 0600, also ``with_folder``, 0700; raises CannotCreateError."""
    hint = "Name one in a folder of this user that is there."
    with os_errors_as(CannotCreateError, f"{path} cannot be written", path, hint):
        try:
            if with_folder:
                make_folders(path.parent)
            make_private_file(path, text.encode())
        except FileExistsError:
            hint = "Edit it, or move it away and run this again."
            raise CannotCreateError(f"{path} is there already", hint=hint) from None


def replace_private_file(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in a place, durably and in one step, one process at a time; raises OSError."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    make_private_file(new, content)
    new.replace(path)
    sync_folder(path.parent)


def put_whole(path: Path, content: bytes, *, mode: int = 0o600, may_replace: bool = True) -> None:
    """Put a file in its place in one step, also beside other processes that do; raises OSError."""
    # Programs that read all files of a kind pass over this ending.
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        make_private_file(made, content)
        made.chmod(mode)
        if may_replace:
            made.replace(path)
        else:
            put(made, path)
    finally:
        made.unlink(missing_ok=True)


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """Give an empty private file that stands at ``target`` once it is whole and durable; it replaces nothing.

    Until then it is in a folder ``<target>.part``, which nobody else may write to, with what SQLite puts beside
    it. What a death leaves there goes with the next file for the same target.
    Raises OSError; BlockingIOError while another process makes the same file.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    folder = target.with_name(target.name + ".part")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, f"{folder} is not a folder of ours alone")
    # The lock is on a file of its own: NFS locks no folder, and on the copy it would be in SQLite's way.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), (folder / "lock").lstat()):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        for left in folder.glob("copy*"):
            left.unlink()
        try:
            make_private_file(folder / "copy")
            yield folder / "copy"
            put(folder / "copy", target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def put(file: Path, target: Path) -> None:
    """Give a file the name ``target`` too, durably and replacing nothing; it may lose its own. Raises OSError."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    try:
        target.hardlink_to(file)  # unlike a rename, this never replaces a file
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(target):
            raise
        file.rename(target)
    sync_folder(target.parent)


def make_folders(folder: Path) -> None:
    """Make a folder and those missing above it, mode 0700 whatever the umask; raises OSError."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
        parent.chmod(0o700)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_small(path: Path, most_bytes: int = SMALL_BYTES, *, is_secret: bool = False) -> BinaryIO:
    """Open a regular file of at most so many bytes for reading, without waiting for the writer of a pipe.

    Raises OSError, also for a pipe, a device or a larger file; ConfigurationError for a secret in a file or folder
    that others can change or read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = open_ours(path, flags, is_secret=True) if is_secret else os.open(path, flags)
    facts = os.fstat(descriptor)
    is_regular = stat.S_ISREG(facts.st_mode)
    if is_regular and facts.st_size <= most_bytes:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if is_regular:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes")
    raise OSError(errno.EINVAL, "it is not a regular file")


def read_small(path: Path, most_bytes: int = SMALL_BYTES, *, is_secret: bool = False) -> bytes:
    """Read a file whole that `open_small` opens; raises as that does."""
    with open_small(path, most_bytes, is_secret=is_secret) as file:
        return file.read(most_bytes)


def open_ours(path: Path, flags: int, *, most_links: int = 1, is_secret: bool = False) -> int:
    """Open a file of this user (new: 0600); raises OSError, ConfigurationError where others could change it."""
    with proved_folder(path.parent) as folder:
        descriptor = os.open(path.name, flags | _SAFE_OPEN, 0o600, dir_fd=folder)
    try:
        check_ours(path, os.fstat(descriptor), most_links=most_links, is_secret=is_secret)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def user_name(uid: int) -> str:
    """Return the name of a user as `sudo -u` takes it."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"#{uid}"


def why(error: OSError, path: Path) -> str:
    """Return what an error says; where rights are missing also whose the place is that keeps this user out."""
    return f"{error.strerror}; {whose(path)}" if isinstance(error, PermissionError) else str(error.strerror)


@contextmanager
def os_errors_as(kind: type[ImporterError], what: str, path: Path, hint: str) -> Iterator[None]:
    """Raise one of ours for an OSError inside: ``what`` failed, `why`, and what to do next."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {why(error, path)}", hint=hint) from error


def whose(path: Path) -> str:
    """Return the last place on the way to a path that this user can see, its owner and mode, and this user."""
    seen, facts = Path("/"), Path("/").stat()
    for place in (*reversed(path.absolute().parents), path.absolute()):
        with suppress(OSError):
            found = place.stat()
            if place != path.absolute() or not os.access(place, os.R_OK | os.W_OK):
                seen, facts = place, found
    owner = f"belongs to {user_name(facts.st_uid)} (mode {stat.S_IMODE(facts.st_mode):04o})"
    return f"{seen} {owner}, and {user_name(os.geteuid())} runs this"


def check_ours(path: Path, facts: os.stat_result, *, most_links: int = 1, is_secret: bool = False) -> None:
    """Raise ConfigurationError unless others cannot change this file of this user, nor read a secret."""
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > most_links:
        raise ConfigurationError(
            f"{path} is a link or not a regular file, so it is not used",
            hint="Find out who put it there. Remove it if it is not your own.",
        )
    shown = shlex.quote(str(path))
    if facts.st_uid != os.geteuid():
        owner, user = user_name(facts.st_uid), user_name(os.geteuid())
        as_owner = f"Run it as that user: sudo -H -u {shlex.quote(owner)} ... Only if it is your own, run"
        raise ConfigurationError(
            f"{path} belongs to {owner}, and {user} runs this, so it is not used",
            hint=f"{as_owner if facts.st_uid else 'A command as root left it. Give it back, as root:'} "
            f"`chown {os.geteuid()} {shown}`.",
        )
    mode = stat.S_IMODE(facts.st_mode)
    if is_secret and mode & 0o077:
        raise ConfigurationError(
            f"{path} can be read by others: its mode is {mode:04o}",
            hint=f"Run `chmod 600 {shown}`; if others use this machine, authorise again.",
        )
    if by_others := mode & 0o022:
        raise ConfigurationError(
            f"{path} can be changed by others: its mode is {mode:04o}",
            hint=f"Look whether what it holds is yours, then run `chmod {_BY_OTHERS[by_others]} {shown}`.",
        )


@contextmanager
def proved_folder(folder: Path) -> Iterator[int]:
    """Give the open folder; raises ConfigurationError when others could replace it or a file in it, or OSError."""
    real = Path(os.path.realpath(folder))
    descriptor = os.open(real.anchor, _FOLDER)
    try:
        for place in (*reversed(real.parents), real):
            if place.name:
                below = os.open(place.name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            facts, shown = os.fstat(descriptor), shlex.quote(str(place))
            if facts.st_uid not in (0, os.geteuid()):
                owner = user_name(facts.st_uid)
                raise ConfigurationError(
                    f"the folder {place} belongs to {owner}, who could replace what is in it",
                    hint=f"Run it as that user (sudo -H -u {shlex.quote(owner)} ...), or name a place in a folder "
                    f"of your own. If it is yours, run `chown {os.geteuid()} {shown}`.",
                )
            # A group counts as the owner where it is the owner's alone, or one of the system's that root lets in:
            # with umask 002 every user has a group of the same name; /var/log is root's and syslog's on Ubuntu.
            is_trusted = facts.st_uid == 0 and facts.st_gid < _FIRST_USER_GROUP
            if facts.st_uid != 0:
                with suppress(KeyError):
                    group = grp.getgrgid(facts.st_gid)
                    is_trusted = group.gr_name == pwd.getpwuid(facts.st_uid).pw_name and not group.gr_mem
            by_others = facts.st_mode & (stat.S_IWOTH if is_trusted else stat.S_IWGRP | stat.S_IWOTH)
            # In a sticky folder such as /tmp nobody can replace what is ours; the owner of a file shows if it is.
            if by_others and not facts.st_mode & stat.S_ISVTX:
                raise ConfigurationError(
                    f"others may write to the folder {place}, so they could replace what is in it",
                    hint=f"Run `chmod {_BY_OTHERS[by_others]} {shown}`.",
                )
        yield descriptor
    finally:
        os.close(descriptor)
