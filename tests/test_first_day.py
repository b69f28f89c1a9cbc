"""The first day of a new user, at a terminal: set up, sign in, look, send, and run again from cron."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import ROOT, call_row, read_results, write_export
from terminal import Terminal

ANSWERS = {
    "data centre": "",
    "Time zone": "Europe/London",
    "Region": "GB",
    "Agents file, such as agents.csv (empty: none)": "agents.csv",
    "Make it, to be completed? [y/N]": "y",
    "Name of this telephone system": "",
    "At most so many calls": "1000/second",
    "Ledger": "",
}


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Return the environment of somebody who has never used the program."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}


@pytest.fixture
def sandbox(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Start `sandbox` as a program of its own, and return the lines it prints."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Stop it"):
            lines.append(process.stdout.readline())
        yield lines
        process.terminate()


def told(lines: list[str], name: str) -> str:
    """Return the value of a variable that the sandbox names."""
    found = re.search(rf"CDR_IMPORTER_{name}=(\S+)", "".join(lines))
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_unknown_export(environment: Mapping[str, str], tmp_path: Path) -> None:
    """An export of a system that nobody knows is described by numbers, and then imported into the sandbox."""
    when = datetime.now(UTC) - timedelta(days=1)
    (tmp_path / "anrufe.csv").write_bytes(
        (
            "Nr.;Datum;Richtung;Nebenstelle;Rufnummer;Klingelzeit;Ergebnis\n"
            f"48100;{when:%d.%m.%Y} 09:14:07;abgehend;21;030 23125012;00:32;besetzt\n"
            f"48101;{when:%d.%m.%Y} 09:15:07;ankommend;21;030 23125013;00:12;keine Antwort für 22\n"
        ).encode("cp1252")
    )
    described = {
        "When it began": "",
        "id of the call": "1",
        "Who of us called": "4",
        "number that was called": "",
        "went out or came in": "3",
        "What became of it": "7",
        "How long it rang": "6",
        "How long they talked": "",
        "Numbers without + have": "",
        "abgehend, 1 row": "1",
        "ankommend, 1 row": "2",
        "besetzt, 1 row": "2",
        "keine Antwort für 22, 1 row": "7",
    }
    init = Terminal(("init", "--from", "anrufe.csv"), environment, tmp_path)
    init.answer(described | {"data centre": "", "Time zone": "Europe/Berlin", "Region": "DE", "Agents file": ""})
    init.answer({"agents without one": "+493023125001", "Name of this": "", "Take rate": "", "Ledger": ""})
    assert init.finish() == 0, init.shown
    assert max(len(line) for line in init.lines() if str(tmp_path) not in line) <= 80, init.shown
    sent = Terminal(("import", "--sandbox", "--results", "out.csv", "anrufe.csv"), environment, tmp_path)
    assert sent.finish() == 0, sent.shown
    assert [(row["outcome"], row["state"]) for row in read_results(tmp_path / "out.csv")] == [("accepted", "busy")]


@pytest.mark.slow
def test_first_day(sandbox: list[str], environment: Mapping[str, str], tmp_path: Path) -> None:
    """From nothing to a report: `init`, `auth login`, `users`, `import`, `report`, and a silent night."""
    base = told(sandbox, "API_URL")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    rows = [call_row(number, start_time=f"{yesterday:%Y-%m-%d %H:%M}:{number:02}") for number in (1, 2, 3)]
    export = write_export(tmp_path / "export.csv", rows)

    def at_terminal(*arguments: str | Path) -> Terminal:
        return Terminal(arguments, environment, tmp_path)

    init = at_terminal("init", "--accounts-url", base, "--api-url", base)
    init.answer(ANSWERS)
    assert init.finish() == 0, init.shown
    login = at_terminal("auth", "login")
    login.expect("Client id: ")
    login.type(told(sandbox, "CLIENT_ID"))
    login.expect("Client secret: ")
    login.type(told(sandbox, "CLIENT_SECRET"))
    login.expect("Code: ")
    with urllib.request.urlopen(f"{base}/sandbox/code") as answered:
        login.type(answered.read().decode().strip())
    assert login.finish() == 0, login.shown
    assert told(sandbox, "CLIENT_SECRET") not in login.shown
    users = at_terminal("users", "--write", "todo.csv")
    assert users.finish() == 0, users.shown
    refused = at_terminal("import", export)
    refused.expect("Send them? [y/N]: ")
    refused.type("n")
    assert refused.finish() == 130, refused.shown
    sent = at_terminal("import", "--results", "out.csv", export)
    sent.expect("About to notify 3 calls to Zoho")
    sent.expect("Send them? [y/N]: ")
    sent.type("y")
    assert sent.finish() == 0, sent.shown
    assert [row["outcome"] for row in read_results(tmp_path / "out.csv")] == ["accepted"] * 3
    report = at_terminal("report", "out.csv")
    assert report.finish() == 0, report.shown
    assert "</html>" in (tmp_path / "out.csv.html").read_text(encoding="utf-8")
    for terminal in (init, login, users, refused, sent, report):
        lines = [line for line in terminal.lines() if str(tmp_path) not in line and not line.startswith("rows=")]
        assert max(map(len, lines)) <= 80, terminal.shown
    cron = [sys.executable, "-m", "importer", "import", "--results", "night.csv", str(export)]
    night = subprocess.run(cron, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (night.returncode, night.stdout, night.stderr) == (0, "", "")
