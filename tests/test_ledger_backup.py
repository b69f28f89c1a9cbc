"""A ledger and its copies in the making: whole under their name or not there, whatever dies or fills up."""

import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from disks import filling_disk, own_disk
from importer.errors import CannotCreateError, ConfigurationError, LedgerError, TryLaterError
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from ledgers import CREATED, LATER_RUN, bring_to, call, opened, outcomes, take, ticking
from schemas.vocabulary import Outcome
from states import ACCEPTED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a new ledger with one call that waits, and return its path."""
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    with opened(tmp_path / "ledger.sqlite") as ledger:
        take(ledger, call("old"))
    return tmp_path / "ledger.sqlite"


def test_backup(path: Path, tmp_path: Path) -> None:
    """A backup is a ledger of its own in one private file, with all that was committed."""
    target = tmp_path / "backup.sqlite"
    with opened(path) as ledger:
        bring_to(ledger, ACCEPTED, call())
        ledger.backup(target)
    assert [each.name for each in tmp_path.glob("backup*")] == ["backup.sqlite"]
    assert (stat.S_IMODE(target.stat().st_mode), target.stat().st_nlink) == (0o600, 1)
    with Ledger.open(target, run=LATER_RUN, now=ticking(), restored=True) as copy:
        copy.accept_restore([], complete=True)
        assert outcomes(take(copy, call(), call("b1"))) == [Outcome.ALREADY_ACCEPTED, None]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "empty"])
def test_backup_never_overwrites(path: Path, tmp_path: Path, kind: str) -> None:
    """A backup over anything that is there is exit 73 and leaves it alone."""
    target = tmp_path / "old"
    {
        "file": lambda: target.write_text("keep"),
        "folder": target.mkdir,
        "link": lambda: target.symlink_to("nowhere"),
        "empty": target.touch,
    }[kind]()
    before = target.lstat()
    with open_reader(path) as reader, pytest.raises(CannotCreateError, match="exists"):
        reader.backup(target)
    assert os.path.samestat(before, target.lstat())
    assert before.st_size == target.lstat().st_size


def test_backup_beside_another(path: Path, tmp_path: Path) -> None:
    """Two backups to one place at once are exit 75 for the second; a folder that others may write to is 73."""
    target, folder = tmp_path / "backup", tmp_path / "backup.part"
    folder.mkdir(0o700)
    with open_reader(path) as reader:
        with (folder / "lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(TryLaterError, match="another backup"):
                reader.backup(target)
        folder.chmod(0o777)
        with pytest.raises(CannotCreateError, match="ours alone"):
            reader.backup(target)
    assert [each.name for each in folder.iterdir()] == ["lock"]


OWN_FILES = ("/importer/ledger/", "/importer/private_files")


def ends(act: Callable[[], object], line: int) -> bool:
    """Act in a child that is killed at its nth line in the ledger's own files; say whether it came to its end."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        # The lines of `check_place` are as many as the machine mounts.
        if frame.f_code.co_name == "check_place" or not any(at in frame.f_code.co_filename for at in OWN_FILES):
            return None
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    act()
    os._exit(0)


def test_death_while_a_ledger_is_made(tmp_path: Path) -> None:
    """After a death at any moment of making it, a ledger is either there and usable, or can be made."""
    for line in range(4, 320, 24):
        made = tmp_path / f"{line}.sqlite"
        ends(partial(create_ledger, made, now=CREATED), line)
        if not made.exists():
            create_ledger(made, now=CREATED)
        with opened(made) as ledger:
            assert ledger.pending_count() == 0, line


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_a_line(path: Path, tmp_path: Path, step: int) -> None:
    """Killed anywhere, a backup leaves nothing under its name, or a whole one that is older than the ledger."""
    folder, targets = tmp_path / "copies", list[Path]()
    folder.mkdir()

    def backup() -> None:
        open_reader(path).backup(targets[-1])

    for line in range(1, 999, step):
        targets.append(folder / str(line))
        if ends(backup, line):
            break
    assert [target.exists() for target in targets] == sorted(target.exists() for target in targets)
    assert targets[-1].exists()
    assert step > 1 or not targets[-2].with_name(targets[-2].name + ".part").exists()
    assert sum(target.with_name(target.name + ".part").exists() for target in targets) > 20 // step
    for target in targets:
        _judge(path, target)


def _judge(path: Path, target: Path) -> None:
    """See that a backup which may have died can be restored but not by itself, or else be made anew."""
    if not target.exists():
        with open_reader(path) as reader:
            reader.backup(target)
        assert not target.with_name(target.name + ".part").exists()
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM calls").fetchone() != (0,)
    shutil.copy(target, path)
    with pytest.raises(ConfigurationError, match="older than"):
        opened(path, LATER_RUN)


def fill(disk: Path) -> None:
    """Fill a disk to the last byte."""
    with pytest.raises(OSError, match="No space"), (disk / "filler").open("wb", 0) as filler:
        while filler.write(bytes(1 << 16)):
            pass


def dead_ledger(path: Path, folder: Path) -> Path:
    """Return a ledger as a run that died left it: with a call that is only in the -wal file."""
    folder.mkdir(exist_ok=True)
    with opened(path) as ledger:
        take(ledger, call())
        for each in path.parent.glob("ledger.sqlite*"):
            shutil.copy(each, folder / each.name)
    return folder / path.name


@pytest.mark.fault(111)
@pytest.mark.parametrize("trouble", ["full", "ro"])
def test_disk_full_or_read_only(path: Path, tmp_path: Path, trouble: str) -> None:
    """On a disk that is full or read-only a ledger is read and copied, its -wal file too; no run begins."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with own_disk(disk, 24) as remount:
        made, dead = disk / "made.sqlite", dead_ledger(path, disk)
        create_ledger(made, now=CREATED)
        with opened(made) as ledger:
            take(ledger, call())
        fill(disk) if trouble == "full" else remount("ro")
        for place, calls in ((made, 1), (dead, 2)):
            with open_reader(place) as reader:
                reader.backup(tmp_path / f"{place.name}.copy")
                assert reader.pending_count() == calls
            with open_reader(tmp_path / f"{place.name}.copy") as copy:
                assert copy.pending_count() == calls
        with open_reader(made):
            remount("rw")
            (disk / "filler").unlink(missing_ok=True)
            with pytest.raises(TryLaterError):
                opened(made)
        opened(made).close()


def test_disk_full_without_shared_memory(path: Path, tmp_path: Path) -> None:
    """Where the -wal file cannot be read where it is, what to copy is said, and the copy is whole."""
    dead = dead_ledger(path, tmp_path.joinpath("dead"))
    dead.with_name(dead.name + "-shm").unlink()
    with filling_disk() as fill_up:
        fill_up()
        with pytest.raises(LedgerError, match="-wal") as caught:
            open_reader(dead)
    assert "Copy both files" in caught.value.hint
    for each in (dead, dead.with_name(dead.name + "-wal")):
        shutil.copy(each, tmp_path / f"moved{each.name.removeprefix(dead.name)}")
    with open_reader(tmp_path / "moved") as reader:
        assert reader.pending_count() == 2


def test_target_disk_full(path: Path, tmp_path: Path) -> None:
    """A disk that is full of the copy is exit 73 and not the ledger's fault; nothing is left there."""
    with (
        filling_disk() as fill_up,
        open_reader(path) as reader,
        pytest.raises(CannotCreateError, match="No space"),
    ):
        fill_up()
        reader.backup(tmp_path / "backup")
    assert not list(tmp_path.glob("backup*"))
