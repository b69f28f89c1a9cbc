"""A run waits for the one that holds the ledger, as long as it is told to."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import ROOT, Program, call_row, wait_until, write_export
from importer.errors import CannotCreateError, ExitCode, StoppedError, TryLaterError
from importer.ledger.beside import take_lock
from importer.ledger.reader import open_reader
from importer.pipeline.run import Listener
from ledgers import make_waiting, opened
from misbehaviour import Simulator
from runs import OwnTime, delivered, ledger_counts


class Waiting(OwnTime):
    """A clock of one's own; the run that holds the ledger ends after ``patience`` looks at it."""

    def __init__(self, ledger: Path, looks: int) -> None:
        super().__init__()
        self.holder = opened(ledger)
        self.looks = looks

    def sleep(self, seconds: float) -> None:
        """Let time pass, and the other run end in time."""
        super().sleep(seconds)
        if len(self.waits) == self.looks:
            self.holder.close()


def deliver(time: Waiting, told: list[str], code: ExitCode | None = None) -> ExitCode:
    """Deliver what is pending with 30 seconds of patience; a signal comes in with the third look at the ledger."""
    own = {"clock": time, "sleep": time.sleep, "wait_for": time.wait_for, "began": time()}
    own["interrupted"] = lambda: code if len(time.waits) >= 3 else None
    options = {"lock_wait": "30", "results": "deliver.csv"}
    return delivered(Listener(waiting=told.append), options, **own).exit_code


@pytest.fixture(name="ledger")
def make_ledger(account: Simulator, tmp_path: Path) -> Path:
    """Make a ledger with two pending calls."""
    make_waiting(tmp_path / "ledger.sqlite", 2)
    return tmp_path / "ledger.sqlite"


def test_other_run_ends_in_time(ledger: Path) -> None:
    """One line says who holds the ledger since when; then the run does its work."""
    time, told = Waiting(ledger, looks=5), list[str]()
    assert deliver(time, told) is ExitCode.OK
    who = f"another run (pid {os.getpid()}, since 2026-03-01 00:00:00 GMT) holds the ledger {ledger}"
    assert told == [f"{who}; waiting for its end, 30 s at most"]
    assert ledger_counts(ledger.parent) == {"accepted": 2}


def test_other_run_goes_on(ledger: Path, program: Program) -> None:
    """After the time of --lock-wait, or at once without it, the run ends with 75 and nothing is sent."""
    time, told = Waiting(ledger, looks=-1), list[str]()
    with pytest.raises(TryLaterError, match="holds the ledger"):
        deliver(time, told)
    assert (round(sum(time.waits)), len(told)) == (30, 1)
    ran = program("deliver")
    assert (ran.code, ran.stderr.count("holds the ledger")) == (75, 1)
    ran = program("deliver", "--lock-wait", "1")
    assert (ran.code, ran.stderr.count("holds the ledger")) == (75, 2)
    assert "waiting for its end, 1 s at most" in ran.stderr
    time.holder.close()
    assert ledger_counts(ledger.parent) == {"pending": 2}


def test_ledger_that_another_run_makes(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Of two first runs the one that finds the ledger in the making waits for that too."""
    lock = take_lock(tmp_path / "ledger.sqlite")
    threading.Timer(0.5, lock.release).start()
    path = write_export(tmp_path / "a.csv", [call_row(1)])
    assert program("import", "--init-ledger", "--lock-wait", "30", path).code == 0
    assert len(account.accepted) == 1


def test_results_of_the_run_waited_for(ledger: Path) -> None:
    """Results that the other run has put in this one's place are found before anything is sent."""
    told = SimpleNamespace(append=lambda _: Path("deliver.csv").touch())
    with pytest.raises(CannotCreateError, match=r"deliver\.csv is in the way"):
        deliver(Waiting(ledger, looks=5), told)
    assert ledger_counts(ledger.parent) == {"pending": 2}


HOLDING = (
    ("resolve", "call00000", "--sent", "--note", "seen"),
    ("resolve", "call00000", "--reopen"),
    ("ledger", "purge"),
    ("ledger", "forget", "--number", "+12125550199"),
    ("ledger", "accept-restore"),
    ("ledger", "accept-account"),
)
"""The commands that hold the ledger and send nothing."""


def test_commands_that_hold_it(ledger: Path, program: Program) -> None:
    """The commands of a person wait as a run does: one line says for whom, and the end is 75 or their own."""
    holder = opened(ledger)
    ran = program(*HOLDING[0], "--lock-wait", "1")
    assert (ran.code, ran.stderr.count("waiting for its end, 1 s at most")) == (75, 1), ran.stderr

    def end_when_waited_for(said: Any) -> None:
        wait_until(lambda: "waiting for its end" in said.getvalue())
        holder.close()

    for command in HOLDING:
        threading.Thread(target=end_when_waited_for, args=(sys.stderr,)).start()
        ran = program(*command, "--lock-wait", "60")
        assert ("waiting for its end" in ran.stderr, ran.code in (0, 2)) == (True, True), ran.stderr
        holder = opened(ledger)
    holder.close()


@pytest.mark.slow
def test_signal_ends_the_wait_of_a_command(ledger: Path) -> None:
    """A signal ends the wait of such a command too, which changes nothing."""
    holder = opened(ledger)
    for kind, code in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        command = (sys.executable, "-m", "importer", "ledger", "purge", "--lock-wait", "60")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            assert "waiting for its end" in waiting.stderr.readline()
            waiting.send_signal(kind)
            assert (waiting.wait(timeout=30), waiting.stderr.read().count("holds")) == (code, 0)
    holder.close()
    assert ledger_counts(ledger.parent) == {"pending": 2}


def piped(site: str, rate: str = "1000/second", pack: str = "gzip -c") -> subprocess.Popen[str]:
    """Begin README's recipe for the export of a site, with the program here in place of `ssh`."""
    found = re.search("`(gzip -c .*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    line = found[1].replace("Master", f"{site}-day").replace("paris", site).replace("$(date +%F).", "")
    line = line.replace(
        "ssh cdr-importer@hub cdr-importer", f"CDR_IMPORTER_RATE={rate} {sys.executable} -m importer"
    )
    return subprocess.Popen(["sh", "-c", line.replace("gzip -c", pack) + " -v"], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_sites_at_once(account: Simulator, tmp_path: Path) -> None:
    """Two sites pipe their exports to one ledger: the later waits, and each call is sent once."""
    make_waiting(tmp_path / "ledger.sqlite", 0)
    for site, count in (("paris", 12), ("lyon", 7)):
        write_export(tmp_path / f"{site}-day.csv", map(call_row, range(count)))
    first = piped("paris", rate="1/second")
    while not account.accepted:
        assert first.poll() is None
        time.sleep(0.05)
    second = piped("lyon")
    told = [each.communicate(timeout=60)[1] for each in (first, second)]
    assert (first.returncode, second.returncode, "holds the ledger" in told[1]) == (0, 0, True), told
    assert len({call["id"] for call in account.accepted}) == len(account.accepted) == 19

    for site, pack, code in (("paris", "gzip -c", 0), ("lyon", "f() { gzip -c $1 | head -c 99; }; f", 65)):
        (tmp_path / f"{site}.csv").unlink()
        again = piped(site, pack=pack)
        assert (again.communicate(timeout=60)[1] != "", again.returncode) == (True, code)
    assert (len(account.accepted), ledger_counts(tmp_path)) == (19, {"accepted": 19})
    with open_reader(tmp_path / "ledger.sqlite") as ledger:
        counts = [ledger.rows_of_complete_imports(site, 9) for site in ("paris", "lyon")]
    assert counts == [[(12, 0), (12, 0)], [(7, 0)]]


def test_signal_ends_the_wait(ledger: Path) -> None:
    """A signal ends the wait at once, with its own code."""
    time = Waiting(ledger, looks=-1)
    with pytest.raises(StoppedError) as stopped:
        deliver(time, [], code=ExitCode.TERMINATED)
    assert (stopped.value.exit_code, len(time.waits)) == (ExitCode.TERMINATED, 3)
    time.holder.close()
