"""Section J: files and folders that others can change are not used, and no output destroys what is needed."""

import os
import re
import shlex
import stat
import subprocess
import tempfile
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import pytest

from conftest import Program, table
from disks import filling_disk
from importer.errors import ConfigurationError, LedgerError
from importer.formats.catalogue import user_folder
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from importer.pipeline.inputs import check_apart
from importer.private_files import proved_folder
from importer.records import Event, EventName, Level
from importer.settings.loading import load_settings
from importer.watching.watch import LogFile
from ledgers import CREATED, opened
from misbehaviour import Simulator

STRANGER = 65534
OUTPUTS = ("results", "rejects", "log", "metrics")
SMALL_FILES = ("agents", "config", "format", "ca-bundle", "metrics")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def do_as_told(message: str) -> None:
    """Run the one command that a message names."""
    (command,) = re.findall(r"`((?:chmod|chown) .*?)`", message)
    subprocess.run(shlex.split(command), check=True)


def others_own(path: Path) -> None:
    """Give a file to another user."""
    os.chown(path, STRANGER, 0)


def others_may_write(path: Path) -> None:
    """Let everybody write to a file, or the group too to a folder."""
    os.chown(path, 0, STRANGER)
    path.chmod(0o722 if path.is_dir() else 0o622)


def refused(path: Path, place: Path) -> str:
    """See that neither who writes nor who reads may open a ledger because of a place; return the remedy."""
    for open_it in (opened, open_reader):
        with pytest.raises(ConfigurationError, match=re.escape(str(place))) as caught:
            open_it(path)
    return caught.value.hint


@AS_ROOT
@pytest.mark.fault(145, 146)
def test_ledger_that_others_hold(tmp_path: Path) -> None:
    """A ledger of which a file is another user's, or can be changed by others, is not used till that is mended."""
    path = tmp_path / "ledger.sqlite"
    create_ledger(path, now=CREATED)
    opened(path).close()
    tmp_path.chmod(0o1777)  # where anybody may put a whole ledger of his own
    for ending, spoil in product(("", ".lock", ".witness", "-wal"), (others_own, others_may_write)):
        place = path.with_name(path.name + ending)
        place.touch(0o600)
        spoil(place)
        do_as_told(refused(path, place))
        opened(path).close()


@AS_ROOT
@pytest.mark.fault(145, 146)
def test_watch_and_cache_that_others_hold(program: Program, account: Simulator, export: Path) -> None:
    """Log, metrics and the token's folder and lock end the run with 78 too, before anything is sent."""
    log, metrics = export.with_name("run.log"), export.with_name("run.prom")
    watched = ("--log", log, "--metrics", metrics)
    assert program("import", "--init-ledger", "--limit", "1", *watched, export).code == 0
    cache = Path(os.environ["HOME"]) / ".cache" / "cdr-importer"
    for place, spoil in (
        *product((log, cache), (others_own, others_may_write)),
        *((metrics, others_own), (cache / "token.json.lock", others_own)),
    ):
        spoil(place)
        ran = program("deliver", "--limit", "1", *watched)
        assert (ran.code, str(place) in ran.stderr, len(account.arrivals)) == (78, True, 1), ran.stderr
        do_as_told(ran.stderr)
    assert program("deliver", *watched).code == 0


@AS_ROOT
@pytest.mark.fault(146)
def test_folder_that_others_can_change(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """Each folder up to the root counts: its owner, its group and everybody, unless it is sticky."""
    above = tmp_path / "above"
    path, new = above / "own" / "ledger.sqlite", above / "own" / "new.sqlite"
    create_ledger(path, now=CREATED)
    for folder, group, mode in (
        *product((above, path.parent), (0,), (0o707, 0o777)),
        *product((above, path.parent), (STRANGER,), (0o770, 0o2775)),
    ):
        os.chown(folder, 0, group)
        folder.chmod(mode)
        hint = refused(path, folder)
        ran = program("import", "--init-ledger", "--ledger", new, export)
        assert (ran.code, str(folder) in ran.stderr, new.exists()) == (78, True, False)
        folder.chmod(mode | stat.S_ISVTX)
        opened(path).close()
        folder.chmod(mode)
        do_as_told(hint)
        opened(path).close()
    os.chown(above, STRANGER, 0)
    do_as_told(refused(path, above))
    opened(path).close()


@AS_ROOT
def test_groups_that_are_trusted() -> None:
    """A user's folder may be open to the group of the same name (umask 002), root's to a group of the system."""
    daemon, syslog, users = 1, 104, 1001
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = ((0, syslog, True), (0, users, False), (daemon, daemon, True), (daemon, syslog, False))
        for owner, group, is_safe in cases:
            os.chown(folder, owner, group)
            folder.chmod(0o775)
            os.seteuid(owner)
            try:
                error = pytest.raises(ConfigurationError, match="others may write")
                with nullcontext() if is_safe else error, proved_folder(folder):
                    pass
            finally:
                os.seteuid(0)


@AS_ROOT
def test_log_that_others_put_in_place(tmp_path: Path) -> None:
    """After a rotation a log of another user is not written to: the lines stay with the rotated one."""
    path = tmp_path / "run.log"
    log = LogFile(path, "r1", least=Level.INFO)
    path.rename(tmp_path / "run.log.1")
    path.touch()
    os.chown(path, STRANGER, STRANGER)
    log.write(Event(EventName.RUN_NOTE, Level.WARN, {"text": "one"}))
    log.close()
    assert (path.read_text(), "text=one" in (tmp_path / "run.log.1").read_text()) == ("", True)


def test_lock_file_on_a_full_disk(tmp_path: Path) -> None:
    """A lock file that cannot be written is an error of the disk (74)."""
    path = tmp_path / "ledger.sqlite"
    create_ledger(path, now=CREATED)
    with filling_disk() as fill:
        fill()
        with pytest.raises(LedgerError, match=r"cannot write .*\.lock: File too large"):
            opened(path)
    opened(path).close()


@table(("option", "kind"), [("agents", "device"), ("metrics", "device"), *product(SMALL_FILES, ("pipe", "huge"))])
def test_small_file_that_is_none(
    program: Program, account: Simulator, export: Path, tmp_path: Path, option: str, kind: str
) -> None:
    """A pipe, a device or a huge file in the place of a small one is refused at once (78, or 73 for metrics)."""
    place = tmp_path / "place.toml"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        place.touch()
        os.truncate(place, 1 << 32)
    ran = program("import", "--init-ledger", f"--{option}", place, export)
    if (option, kind) == ("metrics", "huge"):  # it is replaced
        assert (ran.code, place.stat().st_size < 1 << 16) == (0, True)
    else:
        assert (ran.code, account.arrivals) == (73 if option == "metrics" else 78, ()), ran.stderr
        assert str(place) in ran.stderr


def test_output_that_is_needed(tmp_path: Path, export: Path) -> None:
    """No output is the ledger, a file beside it, one that is read or another output, however spelt or linked."""
    ledger, agents, own = tmp_path / "ledger.sqlite", tmp_path / "agents.csv", tmp_path / "own.toml"
    read = {
        "ledger": str(ledger),
        "agents": str(agents),
        "format": str(own),
        "ca_bundle": str(tmp_path / "ca.pem"),
    }
    beside = [ledger.with_name(ledger.name + ending) for ending in ("-wal", "-shm", ".lock", ".witness", ".new")]
    user_folder().mkdir(parents=True)
    (user_folder() / "cdr-importer.toml").touch()
    victims = (*map(Path, read.values()), *beside, export, user_folder() / "cdr-importer.toml")
    link, hard = tmp_path / "link", tmp_path / "hard"
    for option, victim in product(OUTPUTS, victims):
        link.symlink_to(victim)
        spelt = [victim, victim.parent / ".." / victim.parent.name / victim.name, link]
        for place in (*spelt, hard, *spelt):  # not there yet, then there
            with pytest.raises(ConfigurationError, match=f"^--{option} "):
                check_apart(load_settings({**read, option: str(place)}, {}), [export])
            victim.touch()
            if not hard.exists():
                hard.hardlink_to(victim)
        link.unlink()
        hard.unlink()
    out = tmp_path / "out.csv"
    also = [("results", "metrics", "out.csv.carried.part"), ("rejects", "results", "out-2.csv")]
    for one, other, name in (*((a, b, out.name) for a, b in product(OUTPUTS, OUTPUTS) if a != b), *also):
        settings = load_settings({one: str(out), other: str(tmp_path / name)}, {})
        with pytest.raises(ConfigurationError, match=f"is the file of --({one}|{other})"):
            check_apart(settings, [export, agents])
    check_apart(load_settings({name: str(out.with_suffix(f".{name}")) for name in OUTPUTS}, {}), [export])


@pytest.mark.fault(33, 111)
def test_output_of_commands(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """It is found out before any file is opened (78), for pages, backups, drafts and lists too."""
    results, ledger, config = tmp_path / "r.csv", tmp_path / "ledger.sqlite", tmp_path / "c.toml"
    config.write_text('rate = "9/second"\n')
    assert program("import", "--init-ledger", "--results", results, "--limit", "1", export).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (
        ("import", "--config", config, "--log", config, export),
        ("import", "--sandbox", "--metrics", ledger, export),
        ("deliver", "--log", tmp_path / "ledger.sqlite.witness"),
        ("check", "--rejects", tmp_path / "new.csv", "--results", tmp_path / "new.csv", export),
        ("report", results, "--force", "--output", results),
        ("report", "--run", "last", "--force", "--output", ledger),
        ("report", "--run", "last", "--force", "--output", results),
        ("status", "--force", "--html", ledger),
        ("ledger", "backup", tmp_path / "ledger.sqlite-journal"),
        ("users", "--write", tmp_path / "ledger.sqlite-wal"),
        ("formats", "new", export, "--output", tmp_path / "ledger.sqlite-journal"),
        ("init", "--config", ledger.with_name("new.sqlite"), "--ledger", ledger.with_name("new.sqlite")),
    ):
        ran = program(*command)
        assert (ran.code, "would destroy" in ran.stderr) == (78, True), (command, ran.stderr)
        assert {path: path.read_bytes() for path in before} == before, command
    for flag, place in product(
        ("--results", "--rejects"), (tmp_path, tmp_path / "no/r.csv", Path("/proc/no/r.csv"))
    ):
        assert program("import", flag, place, export).code == 73
    assert (len(account.arrivals), (tmp_path / "new.csv").exists()) == (1, False)
