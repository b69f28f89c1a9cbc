"""Section J: files and folders that others can change are not used, and no output destroys what is needed."""

import os
import re
import shlex
import stat
import subprocess
import tempfile
from itertools import product
from pathlib import Path

import pytest

from conftest import Program
from disks import filling_disk
from importer.errors import ConfigurationError, LedgerError
from importer.formats import user_folder
from importer.ledger import create_ledger, open_reader
from importer.pipeline import check_apart
from importer.private_files import proved_folder
from importer.records import Event, EventName, Level
from importer.settings import load_settings
from importer.watching import LogFile
from ledgers import CREATED, call, opened, take
from misbehaviour import Simulator

STRANGER = 65534
OUTPUTS = ("results", "rejects", "log", "metrics")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def do_as_told(message: str) -> None:
    """Run the one command that a message names."""
    (command,) = re.findall(r"`((?:chmod|chown) .*?)`", message)
    subprocess.run(shlex.split(command), check=True)


# whose files -------------------------------------------------------------------------------------------------


def others_own(path: Path) -> None:
    """Give a file to another user."""
    os.chown(path, STRANGER, 0)


def others_may_write(path: Path) -> None:
    """Let everybody write to a file, or the group too to a folder."""
    os.chown(path, 0, STRANGER)
    path.chmod(0o722 if path.is_dir() else 0o622)


@AS_ROOT
@pytest.mark.fault(145, 146)
def test_ledger_that_others_hold(tmp_path: Path) -> None:
    """A ledger of which a file is another user's, or can be changed by others, is not used till that is mended."""
    path = tmp_path / "ledger.sqlite"
    create_ledger(path, now=CREATED)
    opened(path).close()
    for ending, spoil, open_it in product(
        ("", ".lock", ".witness", "-wal"), (others_own, others_may_write), (opened, open_reader)
    ):
        place = path.with_name(path.name + ending)
        place.touch(0o600)
        spoil(place)
        with pytest.raises(ConfigurationError, match=re.escape(str(place))) as caught:
            open_it(path)
        do_as_told(caught.value.hint)
        opened(path).close()


@AS_ROOT
@pytest.mark.fault(145, 146)
def test_watch_and_cache_that_others_hold(
    program: Program, account: Simulator, export: Path, tmp_path: Path
) -> None:
    """Log, metrics and the token's folder and lock end the run with 78 too, before anything is sent."""
    log, metrics = tmp_path / "run.log", tmp_path / "run.prom"
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
def test_planted_ledger(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """A whole ledger that another user put into a sticky folder is not used: his calls are not sent as ours."""
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    ledger = folder / "ledger.sqlite"
    create_ledger(ledger, now=CREATED)
    with opened(ledger) as planted:
        take(planted, call("evil1"))
    for path in folder.iterdir():
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o666)
    for command in (("import", "--ledger", ledger, export), ("deliver", "--ledger", ledger), ("status",)):
        ran = program(*command, "--ledger", ledger)
        assert (ran.code, "belongs to nobody, and root runs this" in ran.stderr) == (78, True), ran.stderr
    assert account.arrivals == ()


@AS_ROOT
@pytest.mark.fault(146)
def test_folder_that_others_can_change(tmp_path: Path) -> None:
    """Each folder up to the root counts: its owner, its group and everybody, unless it is sticky."""
    above = tmp_path / "above"
    path = above / "own" / "ledger.sqlite"
    create_ledger(path, now=CREATED)
    for folder, group, mode in (
        *product((above, path.parent), (0,), (0o707, 0o777)),
        *product((above, path.parent), (STRANGER,), (0o770, 0o2775)),
    ):
        os.chown(folder, 0, group)
        folder.chmod(mode)
        for open_it in (opened, open_reader):
            with pytest.raises(ConfigurationError, match=re.escape(str(folder))) as caught:
                open_it(path)
        folder.chmod(mode | stat.S_ISVTX)
        opened(path).close()
        folder.chmod(mode)
        do_as_told(caught.value.hint)
        opened(path).close()
    os.chown(above, STRANGER, 0)
    with pytest.raises(ConfigurationError, match="belongs to nobody") as caught:
        opened(path)
    do_as_told(caught.value.hint)
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
                if is_safe:
                    with proved_folder(folder):
                        pass
                else:
                    with pytest.raises(ConfigurationError, match="others may write"), proved_folder(folder):
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


# what is read ------------------------------------------------------------------------------------------------


def test_small_file_that_is_none(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """A pipe, a device or a huge file in the place of a small one is refused at once: 78, nothing is sent."""
    for option, kind in (
        *(("agents", "device"), ("metrics", "device")),
        *product(("agents", "config", "format", "ca-bundle", "metrics"), ("pipe", "huge")),
    ):
        place = tmp_path / f"{option}-{kind}.toml"
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "device":
            place.symlink_to("/dev/zero")
        else:
            place.touch()
            os.truncate(place, 1 << 32)
        ran = program("import", "--init-ledger", f"--{option}", place, export)
        is_replaced = (option, kind) == ("metrics", "huge")
        assert (ran.code, bool(account.arrivals)) == (0 if is_replaced else 78, is_replaced), (place, ran.stderr)
        assert is_replaced or str(place) in ran.stderr or option == "ca-bundle"
    assert (tmp_path / "metrics-huge.toml").stat().st_size < 1 << 16


# what is written ---------------------------------------------------------------------------------------------


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
    for option, victim in product(OUTPUTS, victims):
        (tmp_path / "link").symlink_to(victim)
        spelt = [victim, victim.parent / ".." / victim.parent.name / victim.name, tmp_path / "link"]
        for place in (*spelt, tmp_path / "hard", *spelt):
            settings = load_settings({**read, option: str(place)}, {})
            with pytest.raises(ConfigurationError, match=f"^--{option} "):
                check_apart(settings, [export])
            victim.touch()
            if not (tmp_path / "hard").exists():
                (tmp_path / "hard").hardlink_to(victim)
        (tmp_path / "link").unlink()
        (tmp_path / "hard").unlink()
    out = tmp_path / "out.csv"
    also = [("results", "metrics", "out.csv.carried.part"), ("rejects", "results", "out-2.csv")]
    for one, other, name in (*((a, b, out.name) for a, b in product(OUTPUTS, OUTPUTS) if a != b), *also):
        settings = load_settings({one: str(out), other: str(tmp_path / name)}, {})
        with pytest.raises(ConfigurationError, match=f"is the file of --({one}|{other})"):
            check_apart(settings, [export, agents])
    check_apart(load_settings({name: str(out.with_suffix(f".{name}")) for name in OUTPUTS}, {}), [export])


def test_output_of_a_run_that_is_needed(
    program: Program, account: Simulator, export: Path, tmp_path: Path
) -> None:
    """It is found out before any of the files is opened (78), also for the config file and for standard input."""
    assert program("import", "--init-ledger", "--limit", "1", export).code == 0
    config = tmp_path / "c.toml"
    config.write_text('rate = "9/second"\n')
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (
        ("import", "--config", config, "--log", config, export),
        ("import", "--log", tmp_path / "ledger.sqlite", export),
        ("import", "--sandbox", "--metrics", tmp_path / "ledger.sqlite", export),
        ("import", "--metrics", export, tmp_path),
        ("deliver", "--log", tmp_path / "ledger.sqlite.witness"),
        ("check", "--rejects", tmp_path / "r.csv", "--results", tmp_path / "r.csv", export),
    ):
        assert program(*command).code == 78, command
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(account.arrivals) == 1


def test_output_of_other_commands_that_is_needed(
    program: Program, account: Simulator, export: Path, tmp_path: Path
) -> None:
    """Pages, backups, drafts and lists are no file that is needed either."""
    results, ledger = tmp_path / "r.csv", tmp_path / "ledger.sqlite"
    assert program("import", "--init-ledger", "--results", results, export).code == 0
    for command in (
        ("report", results, "--force", "--output", results),
        ("report", "--run", "last", "--force", "--output", ledger),
        ("report", "--run", "last", "--force", "--output", results),
        ("status", "--force", "--html", ledger),
        ("ledger", "backup", tmp_path / "ledger.sqlite-journal"),
        ("users", "--write", tmp_path / "ledger.sqlite-wal"),
        ("formats", "new", export, "--output", tmp_path / "ledger.sqlite-journal"),
        ("init", "--config", ledger.with_name("new.sqlite"), "--ledger", ledger.with_name("new.sqlite")),
    ):
        before = results.read_bytes(), ledger.read_bytes()
        ran = program(*command)
        assert (ran.code, "would destroy" in ran.stderr) == (78, True), (command, ran.stderr)
        assert (results.read_bytes(), ledger.read_bytes()) == before
