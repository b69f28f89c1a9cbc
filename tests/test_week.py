"""A week of one installation, at a terminal of 80 columns and from cron."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import call_row, read_results, write_export
from ledgers import opened
from misbehaviour import Fault, Simulator
from runs import ledger_counts
from terminal import Terminal

ANSWERS = {
    "data centre": "",
    "Time zone": "America/New_York",
    "Region": "US",
    "Agents file": "",
    "Name of this telephone system": "",
    "At most so many calls": "1000/second",
    "Ledger": "",
}
BEGAN = datetime.now(UTC) - timedelta(days=6, hours=4)


class Week:
    """The folders of an installation, its commands, and what every one of them showed."""

    def __init__(self, folder: Path, account: Simulator, server: Any) -> None:
        self.folder, self.account, self.server = folder, account, server
        self.spool, self.done = folder / "spool", folder / "done"
        self.ledger = Path(os.environ["HOME"], ".local/state/cdr-importer/ledger.sqlite")
        self.spool.mkdir()
        self.done.mkdir()
        self.shown: list[str] = []
        self._commands = 0

    def at_terminal(self, *arguments: str | Path, answers: dict[str, str] | None = None) -> tuple[int, str]:
        """Return exit code and screen of a command at the terminal; ``answers`` are typed where it asks."""
        terminal = Terminal(self.server, arguments, self.folder)
        terminal.answer(answers or {})
        code = terminal.finish()
        own = (str(self.folder), os.environ["HOME"], "rows=")  # paths are as long as they are
        self.shown += [line for line in terminal.lines() if not any(word in line for word in own)]
        return code, terminal.shown

    def night(self, *options: str) -> tuple[int, str]:
        """Return exit code and mail of the nightly import of the spool."""
        self._commands += 1
        fixed = ("--done", self.done, "--results", self.folder / f"night{self._commands}.csv")
        command = [sys.executable, "-m", "importer", "import", *map(str, fixed), *options, str(self.spool)]
        ran = subprocess.run(command, env=os.environ, cwd=self.folder, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout + ran.stderr

    def export(self, day: int, numbers: Iterable[int]) -> Path:
        """Write the export of a day, as the telephone system does."""
        rows = (call_row(number, start_time=self.start(day, number)) for number in numbers)
        path = write_export(self.spool / f"day{day}.csv", rows)
        past = time.time() - 60
        os.utime(path, (past, past))
        return path

    def counts(self) -> dict[str, int]:
        """Return the ledger's calls by state."""
        return ledger_counts(self.ledger.parent)

    @staticmethod
    def start(day: int, number: int) -> str:
        """Return the GMT start of a call."""
        return f"{BEGAN + timedelta(days=day, seconds=number):%Y-%m-%d %H:%M:%S}"


@pytest.fixture
def week(tmp_path: Path, account: Simulator, server: Any, monkeypatch: pytest.MonkeyPatch) -> Week:
    """Return a machine on which nothing has been set up but the sign-in."""
    for name in ("CDR_IMPORTER_YES", "CDR_IMPORTER_LEDGER", "CDR_IMPORTER_RATE"):
        monkeypatch.delenv(name)
    return Week(tmp_path, account, server)


@pytest.mark.slow
def test_week(week: Week, account: Simulator, tmp_path: Path) -> None:
    """Set-up, canary, nights with backlog, a hole, a lost answer, a folder that stays empty, two sites at once."""
    # Monday: set up, look, send one call, then the others of the day.
    code, shown = week.at_terminal("init", answers=ANSWERS)
    assert code == 0, shown
    first = week.export(0, range(5))
    code, shown = week.at_terminal(
        "import", "--limit", "1", "--results", "canary.csv", first, answers={"[y/N]": "y"}
    )
    assert (code, len(account.accepted)) == (0, 1), shown
    assert "then `cdr-importer deliver` sends the other 4" in " ".join(shown.split())
    code, shown = week.at_terminal("deliver", "--results", "rest.csv", answers={"[y/N]": "y"})
    assert (code, len(account.accepted)) == (0, 5), shown
    # Tuesday night: a quiet night, and the files of which nothing is open are out of the folder.
    week.export(1, range(10, 15))
    assert week.night() == (0, "")
    assert [path.name for path in week.spool.iterdir()] == []
    # Wednesday night: more calls than the night has room for; they go on Thursday, behind Thursday's own.
    week.export(2, range(20, 30))
    assert week.night("--limit", "6") == (0, "")
    assert week.counts() == {"accepted": 16, "pending": 4}
    # Thursday night: an answer is lost. The mail says what to do.
    week.export(3, range(30, 33))
    account.script(Fault.lost_answer())
    code, mail = week.night()
    assert (code, "cdr-importer resolve" in mail) == (4, True)
    assert week.counts() == {"accepted": 22, "uncertain": 1}
    lost = next(row for row in read_results(tmp_path / "night3.csv") if row["outcome"] == "uncertain")
    assert [str(path) for path in week.spool.iterdir()] == [lost["file"]]
    # Friday: it is looked up in the list of Zoho's calls, and settled.
    calls = tmp_path / "calls.csv"
    calls.write_text(
        "Call Type,Call Start Time,Call Status,Dialled Number\n"
        f"Outbound,{lost['start_time']},Unattended Dialled,{lost['to']}\n"
    )
    listed = ("resolve", "--from", calls, "--timezone", "UTC")
    code, shown = week.at_terminal(*listed, answers={"Settle those found (1) as sent?": "y"})
    assert (code, week.counts()) == (0, {"accepted": 23}), shown
    # Saturday night: the calls of a day are missing from the export.
    week.export(5, (50, 51, 86_400 + 52))
    code, mail = week.night("--max-gap", "20h")
    assert (code, "no row for" in mail, "--max-gap" in mail) == (66, True, True), mail
    assert week.counts() == {"accepted": 26}
    # Sunday: two sites at once; the second waits for the first.
    with opened(week.ledger):
        command = [sys.executable, "-m", "importer", "import", "--site", "paris", "--lock-wait", "60s"]
        command += ["--results", "paris.csv", str(week.export(6, range(60, 63)))]
        second = subprocess.Popen(command, env=os.environ, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        assert second.poll() is None
    assert second.communicate()[1] == ""
    assert second.returncode == 0
    assert week.counts() == {"accepted": 29}
    code, shown = week.at_terminal("status", "--runs")
    assert code == 0
    wide = [line for line in week.shown if len(line) > 80]
    assert not wide, "\n".join(wide)
    assert len(account.accepted) == 29 == len({call["id"] for call in account.accepted})
